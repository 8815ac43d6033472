import type { FailureInfo } from '../contract/failure.js';
import type { Plan } from '../contract/plan.js';
import type { TaskStatus } from '../contract/status.js';
import { answered, type Sql } from './connect.js';
import { storedJson, storedText } from './stored-json.js';

/** A task as Temporal remembers it; what its steps gave was in PostgreSQL and is gone. */
export interface RebuiltTask {
  readonly id: string;
  readonly name: string;
  /** 0 to 100 */
  readonly exact: number;
  readonly userId: string;
  readonly plan: Plan;
  readonly attempt: number;
  readonly status: TaskStatus;
  /** of the run that it was read from; null for a task that is to run anew */
  readonly runId: string | null;
  readonly createdAt: Date;
  readonly completedAt: Date | null;
  readonly error: FailureInfo | null;
}

/** The ids of all tasks there are. Reads. */
export async function knownTasks(sql: Sql): Promise<Set<string>> {
  return new Set((await answered(sql<{ id: string }[]>`select id from tasks`, 60_000)).map(({ id }) => id));
}

/** Writes a task that the database has lost, and gives one that has not ended to the outbox. May be repeated. @returns false when there is one of this id */
export async function insertRebuilt(sql: Sql, task: RebuiltTask): Promise<boolean> {
  const { plan, status } = task;
  const [row] = await answered(sql<{ made: boolean }[]>`
    with made as (
      insert into tasks (id, name, type, priority, user_id, template, template_hash, parameters, plan, attempt, status, first_run_id, runs, created_at, started_at, completed_at, error)
      values (${task.id}, ${storedText(task.name).slice(0, 255)}, ${plan.template}, ${task.exact}, ${task.userId}, ${plan.template}, ${plan.templateHash}, ${storedJson(sql, plan.parameters)},
        ${storedJson(sql, plan)}, ${task.attempt}, ${status}, ${task.runId}, ${task.runId === null ? [] : [task.runId]}::text[], ${task.createdAt},
        ${status === 'queued' ? null : task.createdAt}, ${task.completedAt}, ${task.error && storedJson(sql, task.error)})
      on conflict (id) do nothing returning id
    ), told as (
      insert into task_events (task_id, kind, data) select id, 'rebuilt', jsonb_build_object('attempt', ${task.attempt}::integer, 'status', ${status}::text) from made
    ), given as (
      insert into outbox (kind, workflow_id, task_id, payload)
      select 'start', 'task-' || id, id, jsonb_build_object('attempt', ${task.attempt}::integer) from made where ${status === 'queued'}
    )
    select exists (select 1 from made) as made from (select pg_notify('outbox', '')) n`);
  return row?.made ?? false;
}
