import { randomUUID } from 'node:crypto';
import { pino } from 'pino';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { createPruner } from '../../../engine/prune.js';
import { createTestDatabase, type TestDatabase } from '../../support/servers.js';
import { createWorld } from '../db/line-world.js';

let db: TestDatabase;
let world: ReturnType<typeof createWorld>;
beforeAll(async () => {
  db = await createTestDatabase();
  world = createWorld(db.sql);
});
afterAll(() => db.drop());
beforeEach(() => world.empty());

const days = 180;
const pruner = () => createPruner({ sql: db.sql, decisionsDays: days, log: pino({ level: 'silent' }) });

/** One whole run. @returns of how many batches it was */
async function prune(run = pruner()): Promise<number> {
  for (let batches = 1; ; batches += 1) if ((await run()) === undefined) return batches;
}

async function taskThatIs(status: string): Promise<string> {
  const { taskId } = await world.task();
  await db.sql`update tasks set status = ${status} where id = ${taskId}`;
  return taskId;
}

/** Decisions of so many days ago. */
const decided = (ageDays: number, fields: { readonly taskId?: string; readonly row?: string; readonly name: string }, count = 1) => db.sql`
  insert into orchestration_decisions (decision_type, task_id, input_data, output_data, created_at)
  select ${fields.row === undefined ? 'grant' : 'residency'}, ${fields.taskId ?? null}, ${db.sql.json(fields.row === undefined ? {} : { first: { row: fields.row } })},
    ${db.sql.json({ name: fields.name })}, now() - ${ageDays} * interval '1 day' from generate_series(1, ${count}::integer)`;
const names = async () =>
  (await db.sql<{ name: string }[]>`select distinct output_data ->> 'name' as name from orchestration_decisions order by 1`).map(({ name }) => name);

test('decisions older than they are to be kept go, those about a task that has not ended stay [DATA-17]', async () => {
  const waits = await world.task();
  const entered = await world.enter(waits);
  if (entered.state !== 'waiting') throw new Error('not set up');
  const [done, runs] = [await taskThatIs('completed'), await taskThatIs('running')];
  await decided(days + 1, { name: 'old, of nothing' });
  await decided(days + 1, { name: 'old, of a load for a step that is gone', row: '4611686018427387904' });
  await decided(days + 1, { name: 'old, of a task that has ended', taskId: done });
  await decided(days + 1, { name: 'kept: its task runs', taskId: runs });
  await decided(days + 1, { name: 'kept: its load was for a step that waits', row: entered.row });
  await decided(days - 1, { name: 'kept: young', taskId: done });
  await prune();
  expect(await names()).toEqual(['kept: its load was for a step that waits', 'kept: its task runs', 'kept: young']);
  await db.sql`update tasks set status = 'failed'`;
  await prune();
  expect(await names()).toEqual(['kept: young']);
});

test('they go in batches, past any number that stay, and another engine that does the same does no harm [DATA-17]', async () => {
  await decided(days + 2, { name: 'kept', taskId: await taskThatIs('running') }, 1_500);
  await decided(days + 1, { name: 'old' }, 2_200);
  const [one, other] = await Promise.all([prune(), prune()]);
  expect(Math.max(one, other)).toBeGreaterThanOrEqual(4);
  expect(await db.sql`select output_data ->> 'name' as name, count(*)::integer as n from orchestration_decisions group by 1`).toEqual([
    { name: 'kept', n: 1_500 },
  ]);
});

test('it waits for nobody who decides, and audit entries stay [DATA-17, SEC-12]', async () => {
  await decided(days + 1, { name: 'old' });
  const action = randomUUID();
  await db.sql`insert into audit_log (action, at) values (${action}, now() - interval '10 years')`;
  await db.sql.begin(async (tx) => {
    expect(await tx`select line_try_lock() as locked`).toEqual([{ locked: true }]);
    await prune();
  });
  expect(await names()).toEqual([]);
  expect(await db.sql`select 1 from audit_log where action = ${action}`).toHaveLength(1);
});

test('what a task needed that gave way in a deadlock goes when its attempt is long over [DATA-17]', async () => {
  const [done, runs, retried] = [await taskThatIs('completed'), await taskThatIs('running'), await taskThatIs('running')];
  await db.sql`update tasks set attempt = 2 where id = ${retried}`;
  const gaveWay = (taskId: string, attempt: number, ageDays: number | null) => db.sql`
    insert into given_ways (task_id, attempt, locks, cause, marked_at, done_at)
    values (${taskId}, ${attempt}, '{a}', '{}', now() - interval '1 year', now() - ${ageDays}::integer * interval '1 day')`;
  await gaveWay(done, 1, days + 1);
  await gaveWay(done, 2, days - 1);
  await gaveWay(runs, 1, days + 1);
  await gaveWay(retried, 1, days + 1);
  await gaveWay(retried, 2, null);
  await prune();
  const left = await db.sql<{ taskId: string; attempt: number }[]>`select task_id as "taskId", attempt from given_ways`;
  expect(new Set(left.map(({ taskId, attempt }) => `${taskId} ${attempt}`))).toEqual(new Set([`${done} 2`, `${runs} 1`, `${retried} 2`]));
});
