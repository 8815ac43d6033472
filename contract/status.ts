/** The five statuses a task is stored and shown with. */
export const taskStatuses = ['queued', 'running', 'completed', 'failed', 'cancelled'] as const;
export type TaskStatus = (typeof taskStatuses)[number];

export const finalStatuses = ['completed', 'failed', 'cancelled'] as const;
export type FinalStatus = (typeof finalStatuses)[number];

/** Why a task that is not final stands where it stands; shown as `status_detail`. */
export const statusDetails = [
  'waiting_dependency',
  'blocked',
  'held',
  'waiting_model',
  'waiting_slot',
  'waiting_retry',
  'waiting_lock',
  'waiting_resource',
  'cancelling',
] as const;
export type StatusDetail = (typeof statusDetails)[number];

/** What makes a task move: work, a retry asked for by a person, a run reset outside (Temporal Web UI), or a deadlock in which it gives way. */
export type StatusCause = 'work' | 'retry' | 'reset_outside' | 'gives_way';

const moves: Record<StatusCause, Partial<Record<TaskStatus, readonly TaskStatus[]>>> = {
  work: { queued: ['running', 'cancelled', 'failed', 'completed'], running: ['completed', 'failed', 'cancelled'] },
  retry: { failed: ['queued'], cancelled: ['queued'] },
  gives_way: { running: ['queued'] },
  reset_outside: { completed: ['running'], failed: ['running'], cancelled: ['running'] },
};

/** Whether a task may go from one status to another for this cause. `queued` to `completed` happens when every step is skipped. */
export function mayMove(from: TaskStatus, to: TaskStatus, cause: StatusCause): boolean {
  return moves[cause][from]?.includes(to) ?? false;
}

export function isFinal(status: TaskStatus): status is FinalStatus {
  return (finalStatuses as readonly string[]).includes(status);
}
