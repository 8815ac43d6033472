import { ProblemError } from '../contract/problems.js';
import type { TaskView } from '../contract/schemas/task.js';
import { holdTask } from '../db/moves.js';
import { readTask } from '../db/tasks.js';
import { type Caller, ownerOf } from './caller.js';
import type { ServiceDeps } from './deps.js';
import { taskIdOf, taskNotFound } from './task-id.js';
import { taskView } from './task-view.js';

/** Lets nothing more of a task start until it is released; what runs goes on. May be repeated. @throws {ProblemError} task_not_found, task_finished */
export function holdTaskUseCase({ sql }: ServiceDeps) {
  return async (caller: Caller, idText: string, held: boolean): Promise<TaskView> => {
    const id = taskIdOf(idText);
    const { outcome } = await holdTask(sql, id, ownerOf(caller), { held, by: caller.userId });
    if (outcome === 'not_found') throw taskNotFound();
    if (outcome === 'finished') throw new ProblemError('task_finished', 'The task has ended; nothing of it is left to start.');
    const row = await readTask(sql, id, null);
    if (row === null) throw taskNotFound();
    return taskView(row);
  };
}
