import type { PendingQuery, Row } from 'postgres';
import type { FailureInfo } from '../contract/failure.js';
import { taskWorkflowId } from '../contract/ids.js';
import { answered, type Sql } from './connect.js';
import { storedJson } from './stored-json.js';

/** A task that the reconciler compares with its workflow. */
export interface ReconcileTask {
  readonly taskId: string;
  readonly attempt: number;
  readonly workflowId: string;
  /** the run that spoke to the line last; null before the first did */
  readonly runId: string | null;
  /** its start waits in the outbox, so it has no workflow yet */
  readonly startPending: boolean;
}

export interface OpenTaskFilter {
  /** without a change for at least so long */
  readonly unchangedMs: number;
  readonly limit: number;
  /** ids larger than this, for the next page */
  readonly after?: string;
  readonly ids?: readonly string[];
  /** only those that no run has taken up */
  readonly neverRun?: boolean;
}

/** Tasks that are not final, in order of their ids. */
export async function openTasks(sql: Sql, filter: OpenTaskFilter): Promise<ReconcileTask[]> {
  const conditions = sql`t.status in ('queued', 'running') and t.updated_at <= clock_timestamp() - ${filter.unchangedMs} * interval '1 millisecond'
    ${filter.after === undefined ? sql`` : sql`and t.id > ${filter.after}`}
    ${filter.ids === undefined ? sql`` : sql`and t.id = any(${filter.ids as string[]}::uuid[])`}
    ${filter.neverRun ? sql`and cardinality(t.runs) = 0` : sql``}`;
  return read(sql, conditions, filter.limit);
}

type Attempt = Pick<ReconcileTask, 'taskId' | 'attempt'>;

/** Those of the attempts that have ended, since the task is final or a later attempt has begun; of tasks that are not there nothing is known. Reads. */
export async function endedAttempts(sql: Sql, attempts: readonly Attempt[]): Promise<Attempt[]> {
  return answered(sql<Attempt[]>`
    select t.id as "taskId", a.attempt from unnest(${attempts.map(({ taskId }) => taskId)}::uuid[], ${attempts.map(({ attempt }) => attempt)}::integer[]) a (id, attempt)
    join tasks t on t.id = a.id where t.status in ('completed', 'failed', 'cancelled') or a.attempt < t.attempt`);
}

/** Those of the tasks that are final. */
export async function finalTasks(sql: Sql, ids: readonly string[]): Promise<ReconcileTask[]> {
  return read(sql, sql`t.status in ('completed', 'failed', 'cancelled') and t.id = any(${ids as string[]}::uuid[])`, ids.length);
}

async function read(sql: Sql, which: PendingQuery<Row[]>, limit: number): Promise<ReconcileTask[]> {
  const rows = await answered(sql<Omit<ReconcileTask, 'workflowId'>[]>`
    select t.id as "taskId", t.attempt, t.runs[cardinality(t.runs)] as "runId",
      exists (select 1 from outbox o where o.task_id = t.id and o.kind = 'start') as "startPending"
    from tasks t where ${which} order by t.id limit ${limit}`);
  return rows.map((row) => ({ ...row, workflowId: taskWorkflowId(row.taskId) }));
}

/**
 * Closes a task whose workflow ended without writing its end: `failed`, its rows void, holds free.
 * @param code such as `ended_outside`
 * @returns false when the task is final already or at another attempt
 */
export async function closeOutside(
  sql: Sql,
  task: Pick<ReconcileTask, 'taskId' | 'attempt'>,
  failure: { readonly code: string; readonly message: string },
): Promise<boolean> {
  const error: FailureInfo = { ...failure, step: null, attempt: task.attempt };
  const [row] = await answered(
    sql<{ closed: boolean }[]>`select line_close(${task.taskId}, ${task.attempt}, null, null, 'failed', ${storedJson(sql, error)}) as closed`,
  );
  return row?.closed ?? false;
}

/** Gives a task without a workflow to the outbox again, with the same attempt. @returns false when it is final, at another attempt, or there already */
export async function requeueStart(sql: Sql, task: Pick<ReconcileTask, 'taskId' | 'attempt'>): Promise<boolean> {
  const [row] = await answered(sql<{ queued: boolean }[]>`select task_requeue(${task.taskId}, ${task.attempt}) as queued`);
  return row?.queued ?? false;
}

/** Sets a final task to `running` again, since a run that was reset outside works for it. @returns false when it is not final or the run is a known one */
export async function reopenTask(sql: Sql, task: Pick<ReconcileTask, 'taskId' | 'attempt'>, runId: string): Promise<boolean> {
  const [row] = await answered(sql<{ reopened: boolean }[]>`select task_reopen_run(${task.taskId}, ${task.attempt}, ${runId}) as reopened`);
  return row?.reopened ?? false;
}
