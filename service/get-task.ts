import type { TaskView } from '../contract/schemas/task.js';
import { readTask } from '../db/tasks.js';
import { type Caller, ownerOf } from './caller.js';
import type { ServiceDeps } from './deps.js';
import type { Estimates } from './forecasts.js';
import { taskIdOf, taskNotFound } from './task-id.js';
import { taskView } from './task-view.js';

/** One task of the caller's. @throws {ProblemError} task_not_found */
export function getTaskUseCase({ sql }: ServiceDeps, estimates: () => Promise<Estimates>) {
  return async (caller: Caller, idText: string): Promise<TaskView> => {
    const [row, estimateOf] = await Promise.all([readTask(sql, taskIdOf(idText), ownerOf(caller)), estimates()]);
    if (row === null) throw taskNotFound();
    return taskView(row, estimateOf(row.id));
  };
}
