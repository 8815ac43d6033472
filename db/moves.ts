import { answered, type Sql } from './connect.js';

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

export type MoveOutcome = PriorityOutcome | { readonly outcome: 'neighbour_gone' };

/** Places a task directly before or after another one, with that one's priority. May be repeated. */
export async function moveTask(
  sql: Sql,
  taskId: string,
  owner: Owner,
  place: { readonly side: 'before' | 'after'; readonly neighbour: string },
): Promise<MoveOutcome> {
  const [row] = await answered(sql<{ outcome: MoveOutcome }[]>`select task_move(${taskId}, ${owner}, ${place.neighbour}, ${place.side}) as outcome`);
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
