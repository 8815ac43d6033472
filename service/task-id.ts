import { parseTaskId, type TaskId } from '../contract/ids.js';
import { ProblemError } from '../contract/problems.js';

/** The answer to a task that is not there and to one that is somebody else's: the same, so that ids cannot be probed. */
export function taskNotFound(): ProblemError {
  return new ProblemError('task_not_found', 'There is no task with this id.');
}

/** @throws {ProblemError} task_not_found, since no task has an id that is none */
export function taskIdOf(text: string): TaskId {
  const id = parseTaskId(text);
  if (id === undefined) throw taskNotFound();
  return id;
}
