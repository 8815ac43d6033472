import type { CreateTaskRequest, TaskView } from '../contract/schemas/task.js';
import { readReplaySource } from '../db/tasks.js';
import { type Caller, ownerOf } from './caller.js';
import type { ServiceDeps } from './deps.js';
import { replayed } from './replay-task.js';
import { taskNotFound } from './task-id.js';

/** The request that submits a task of the caller's again as it is now, with its dependencies and its present priority. @throws {ProblemError} task_not_found */
export function requestOfTaskUseCase({ sql }: ServiceDeps) {
  return async (caller: Caller, { id, priority, depends_on }: Pick<TaskView, 'id' | 'priority' | 'depends_on'>): Promise<CreateTaskRequest> => {
    const source = await readReplaySource(sql, id, ownerOf(caller));
    if (source === null) throw taskNotFound();
    return replayed(source, { priority, depends_on });
  };
}
