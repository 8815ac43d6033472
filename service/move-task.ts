import { parseTaskId } from '../contract/ids.js';
import { ProblemError } from '../contract/problems.js';
import type { QueueMoveView } from '../contract/schemas/queue.js';
import { moveTask, type MoveOutcome } from '../db/moves.js';
import { readTask } from '../db/tasks.js';
import { type Caller, ownerOf } from './caller.js';
import type { ServiceDeps } from './deps.js';
import { taskIdOf, taskNotFound } from './task-id.js';
import { taskView } from './task-view.js';

export interface MoveRequest {
  readonly task_id: string;
  /** exactly one of the two is there */
  readonly before?: string | undefined;
  readonly after?: string | undefined;
  readonly version?: number | undefined;
}

/**
 * Places a task directly beside another one that waits. Whoever is no administrator moves own tasks beside own tasks, since others are not shown to them; such a
 * move may pass tasks of others, as a higher priority does, but none that the highest priority would not pass.
 * @throws {ProblemError} task_not_found, task_finished, task_started, neighbour_gone, queue_changed, overtakes_others, invalid_request
 */
export function moveTaskUseCase({ sql }: ServiceDeps) {
  return async (caller: Caller, request: MoveRequest): Promise<QueueMoveView> => {
    const { id, side, neighbour } = placeOfMove(request);
    const done = await moveTask(sql, id, ownerOf(caller), { side, neighbour, version: request.version ?? null });
    const { version } = acceptedMove(done);
    const row = await readTask(sql, id, null);
    if (row === null) throw taskNotFound();
    return { task: taskView(row), version };
  };
}

/** Which task is to stand where. @throws {ProblemError} task_not_found, invalid_request */
export function placeOfMove(request: MoveRequest): { readonly id: string; readonly side: 'before' | 'after'; readonly neighbour: string } {
  const id = taskIdOf(request.task_id);
  const side = request.before === undefined ? 'after' : 'before';
  const neighbour = parseTaskId(request[side] ?? '');
  if (neighbour === id) {
    const fault = { path: side, expected: 'the id of another task', got: 'the same id', message: 'A task cannot stand beside itself.' };
    throw new ProblemError('invalid_request', fault.message, { errors: [fault] });
  }
  if (neighbour === undefined) throw unknownNeighbour();
  return { id, side, neighbour };
}

/** What became of a move that was not refused. @throws {ProblemError} for one that was */
export function acceptedMove(done: MoveOutcome): Extract<MoveOutcome, { readonly version: number }> {
  switch (done.outcome) {
    case 'not_found':
      throw taskNotFound();
    case 'neighbour_unknown':
      throw unknownNeighbour();
    case 'finished':
      throw new ProblemError('task_finished', 'The task has ended; it has no place in the queue.');
    case 'started':
      throw new ProblemError('task_started', 'Nothing of the task waits: it has started.');
    case 'neighbour_gone':
      throw new ProblemError('neighbour_gone', 'The other task has started or ended, so that it has no place in the queue any more.');
    case 'changed_meanwhile':
      throw new ProblemError('queue_changed', 'Somebody has placed one of the two tasks since; look at the queue again.');
    case 'overtakes':
      throw new ProblemError('overtakes_others', 'There the task would stand before tasks of others that have the highest priority and came first.');
    case 'changed':
    case 'unchanged':
      return done;
  }
}

const unknownNeighbour = () => new ProblemError('task_not_found', 'There is no task with the id of the other one.');
