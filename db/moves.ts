import { answered, type Sql, type TransactionSql } from './connect.js';

/** Whose task it must be; null: an administrator's move, anybody's task. */
export type Owner = string | null;

export type CancelOutcome =
  | { readonly outcome: 'not_found' }
  | { readonly outcome: 'finished'; readonly status: 'completed' | 'failed' }
  /** it was cancelled before */
  | { readonly outcome: 'unchanged' }
  /** it never started and is `cancelled` now */
  | { readonly outcome: 'cancelled' }
  /** it runs and is told to stop; it may still end `completed` if that was first */
  | { readonly outcome: 'stopping' };

/** Cancels a task. May be repeated. */
export async function cancelTask(sql: Sql, taskId: string, owner: Owner): Promise<CancelOutcome> {
  const [row] = await answered(sql<{ outcome: CancelOutcome }[]>`select task_cancel(${taskId}, ${owner}) as outcome`);
  return row?.outcome ?? { outcome: 'not_found' };
}

export type PriorityOutcome =
  | { readonly outcome: 'not_found' | 'changed' | 'unchanged' }
  | { readonly outcome: 'finished'; readonly status: 'completed' | 'failed' | 'cancelled' };

/**
 * Gives a task and its waiting steps another priority. May be repeated.
 * @param exact 0 to 100
 */
export async function setPriority(sql: Sql, taskId: string, owner: Owner, exact: number): Promise<PriorityOutcome> {
  const [row] = await answered(sql<{ outcome: PriorityOutcome }[]>`select task_prioritise(${taskId}, ${owner}, ${exact}, null) as outcome`);
  return row?.outcome ?? { outcome: 'not_found' };
}

export type MoveOutcome =
  /** `version` of the queue after the move */
  | { readonly outcome: 'changed' | 'unchanged'; readonly version: number }
  | { readonly outcome: 'not_found' }
  | { readonly outcome: 'finished'; readonly status: 'completed' | 'failed' | 'cancelled' }
  /** nothing of the task waits any more */
  | { readonly outcome: 'started' }
  /** there is no such other task, or it is not the owner's, or it is the task itself */
  | { readonly outcome: 'neighbour_unknown' }
  /** the other one has ended, or nothing of it waits */
  | { readonly outcome: 'neighbour_gone' }
  /** somebody else has placed one of the two since the version that was seen */
  | { readonly outcome: 'changed_meanwhile' }
  /** it would pass tasks of others that have the highest priority as well */
  | { readonly outcome: 'overtakes' };

export interface Place {
  readonly side: 'before' | 'after';
  readonly neighbour: string;
  /** of the queue as it was seen; null: as it is now */
  readonly version: number | null;
}

/**
 * Places a task directly before or after another one that waits, with that one's priority, and so that it counts as waiting as long as that one.
 * May be repeated without a version.
 * @param owner whose tasks both have to be
 */
export async function moveTask(sql: Sql | TransactionSql, taskId: string, owner: Owner, { side, neighbour, version }: Place): Promise<MoveOutcome> {
  const [row] = await answered(sql<{ outcome: MoveOutcome }[]>`select task_move(${taskId}, ${owner}, ${neighbour}, ${side}, ${version}) as outcome`);
  return row?.outcome ?? { outcome: 'not_found' };
}

export type HoldOutcome =
  | { readonly outcome: 'not_found' | 'held' | 'released' | 'unchanged' }
  | { readonly outcome: 'finished'; readonly status: 'completed' | 'failed' | 'cancelled' };

/**
 * Holds a task, so that nothing of it is granted, or releases it. May be repeated.
 * @param by who does it; the event says so
 */
export async function holdTask(sql: Sql, taskId: string, owner: Owner, { held, by }: { readonly held: boolean; readonly by: string }): Promise<HoldOutcome> {
  const [row] = await answered(sql<{ outcome: HoldOutcome }[]>`select task_hold(${taskId}, ${owner}, ${held}, ${by}) as outcome`);
  return row?.outcome ?? { outcome: 'not_found' };
}

export type RetryOutcome =
  | { readonly outcome: 'not_found' }
  | { readonly outcome: 'not_retryable'; readonly status: 'queued' | 'running' | 'completed' }
  | { readonly outcome: 'retried'; readonly attempt: number };

/** Queues a failed or cancelled task again, as its next attempt at the end of the line. A repeat answers `not_retryable`, `queued`. */
export async function retryTask(sql: Sql, taskId: string, owner: Owner): Promise<RetryOutcome> {
  const [row] = await answered(sql<{ outcome: RetryOutcome }[]>`select task_retry(${taskId}, ${owner}) as outcome`);
  return row?.outcome ?? { outcome: 'not_found' };
}
