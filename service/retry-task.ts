import { ProblemError } from '../contract/problems.js';
import type { TaskView } from '../contract/schemas/task.js';
import { retryTask } from '../db/moves.js';
import { readTask, readTaskToStart } from '../db/tasks.js';
import { type Caller, ownerOf } from './caller.js';
import type { ServiceDeps } from './deps.js';
import { startTask } from './start-task.js';
import { taskIdOf, taskNotFound } from './task-id.js';
import { taskView } from './task-view.js';

/** Queues a failed or cancelled task again, as its next attempt. @throws {ProblemError} task_not_found, task_not_retryable */
export function retryTaskUseCase(deps: ServiceDeps) {
  const { sql } = deps;
  return async (caller: Caller, idText: string): Promise<TaskView> => {
    const id = taskIdOf(idText);
    const { outcome } = await retryTask(sql, id, ownerOf(caller));
    if (outcome === 'not_found') throw taskNotFound();
    if (outcome === 'not_retryable') throw new ProblemError('task_not_retryable', 'Only a task that failed or was cancelled can be retried.');
    const start = await readTaskToStart(sql, id);
    if (start !== null) await startTask(deps, start);
    const row = await readTask(sql, id, null);
    if (row === null) throw taskNotFound();
    return taskView(row);
  };
}
