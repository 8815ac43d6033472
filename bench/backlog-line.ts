import { randomUUID } from 'node:crypto';
import type { Sql } from '../db/connect.js';
import { residencyKey } from '../contract/queues.js';
import { chain, planStep } from '../test/support/plans.js';

export const models = 100;
const users = 10;
const needOf = (index: number) => ({ name: `model-${index}:latest`, numCtx: 4_096 });
export const firstKey = residencyKey(needOf(0));

/** Lets steps wait: tasks of one step each, of all levels, for each of the models in turn. They have no workflow, so only the bench may work on them. */
export async function addWaiting(sql: Sql, count: number): Promise<void> {
  const plans = Array.from({ length: models }, (_, index) => chain(planStep('ask', { type: 'ollama_generate', pool: 'model', model: needOf(index) })));
  const group = randomUUID();
  await sql`
    with made as (
      insert into tasks (name, type, priority, user_id, template, template_hash, plan, parameters)
      select 'bench ' || ${group}::text || ' ' || n, 'bench', least(100, greatest(1, (random() * 100)::integer)), 'user-' || n % ${users}::integer, 'bench', 'h',
        ${sql.json(plans as never)}::jsonb -> (floor(random() * ${models}::integer)::integer), jsonb_build_object('prompt', repeat('x', 1500))
      from generate_series(1, ${count}::integer) n
      returning id, priority, priority_level, pos, plan)
    insert into line (task_id, attempt, step, try, step_attempt, run_id, pool, key, level, exact, pos, entered_at)
    select id, 1, 'ask', 1, 1, 'bench', 'model', (plan #>> '{steps,0,model,name}') || '~ctx' || (plan #>> '{steps,0,model,numCtx}'), priority_level, priority, pos,
      now() - random() * interval '10 minutes' from made`;
}
