import { exactOfLevel } from '../contract/priority.js';
import { ProblemError } from '../contract/problems.js';
import type { TaskView } from '../contract/schemas/task.js';
import { setPriority } from '../db/moves.js';
import { readTask } from '../db/tasks.js';
import { type Caller, ownerOf } from './caller.js';
import type { ServiceDeps } from './deps.js';
import { taskIdOf, taskNotFound } from './task-id.js';
import { taskView } from './task-view.js';

/** Gives a task another level, which its steps that have not started take at once. @throws {ProblemError} task_not_found, task_finished */
export function setPriorityUseCase({ sql }: ServiceDeps) {
  return async (caller: Caller, idText: string, level: number): Promise<TaskView> => {
    const id = taskIdOf(idText);
    const { outcome } = await setPriority(sql, id, ownerOf(caller), exactOfLevel(level));
    if (outcome === 'not_found') throw taskNotFound();
    if (outcome === 'finished') throw new ProblemError('task_finished', 'The task has ended; its priority no longer changes.');
    const row = await readTask(sql, id, null);
    if (row === null) throw taskNotFound();
    return taskView(row);
  };
}
