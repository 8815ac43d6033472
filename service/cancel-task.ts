import { ProblemError } from '../contract/problems.js';
import { taskWorkflowId } from '../contract/ids.js';
import type { TaskView } from '../contract/schemas/task.js';
import { cancelTask } from '../db/moves.js';
import { readTask } from '../db/tasks.js';
import { type Caller, ownerOf } from './caller.js';
import type { ServiceDeps } from './deps.js';
import { taskIdOf, taskNotFound } from './task-id.js';
import { taskView } from './task-view.js';
import { within } from './within.js';

export interface CancelledTask {
  readonly task: TaskView;
  /** false: it runs, and is being stopped */
  readonly stopped: boolean;
}

/**
 * Cancels a task: at once when it is queued; a running one is told to stop, through the host and through its Temporal workflow.
 * May be repeated. @throws {ProblemError} task_not_found, task_finished
 */
export function cancelTaskUseCase({ sql, temporal, log, config }: ServiceDeps) {
  return async (caller: Caller, idText: string): Promise<CancelledTask> => {
    const id = taskIdOf(idText);
    const { outcome } = await cancelTask(sql, id, ownerOf(caller));
    if (outcome === 'not_found') throw taskNotFound();
    if (outcome === 'finished') throw new ProblemError('task_finished', 'The task has ended; only a task that has not can be cancelled.');
    if (outcome === 'stopping') {
      // The outbox does the same a moment later; this only makes it sooner.
      const cancelled = temporal().then((client) =>
        client.withDeadline(Date.now() + config.temporalTimeoutMs, () => client.workflow.getHandle(taskWorkflowId(id)).cancel()),
      );
      await within(config.temporalTimeoutMs, 'Temporal', cancelled).catch((error: unknown) =>
        log.warn({ err: error, task_id: id }, 'cancellation left to the outbox'),
      );
    }
    const row = await readTask(sql, id, null);
    if (row === null) throw taskNotFound();
    return { task: taskView(row), stopped: row.status === 'cancelled' };
  };
}
