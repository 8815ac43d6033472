import { ProblemError } from '../contract/problems.js';
import type { TaskView } from '../contract/schemas/task.js';
import { listTasks, type TaskFilter } from '../db/tasks.js';
import { type Caller, ownerOf } from './caller.js';
import type { ServiceDeps } from './deps.js';
import type { Estimates } from './forecasts.js';
import { cursorOf, positionOf } from './page-cursor.js';
import { rangeFault } from './range-fault.js';
import { taskView } from './task-view.js';

export interface ListTasksRequest {
  readonly filter: Omit<TaskFilter, 'owner'>;
  readonly limit: number;
  readonly cursor: string | null;
}

/** @throws {ProblemError} invalid_request for a range in which no time lies */
function checkRange(what: 'created' | 'ended', after: Date | null, before: Date | null): void {
  const fault = rangeFault(`${what}_after`, what, after, before);
  if (fault !== null) throw new ProblemError('invalid_request', `${what}_after has to be before ${what}_before.`, { errors: [fault] });
}

export interface TaskPage {
  readonly items: TaskView[];
  readonly next_cursor: string | null;
  readonly total: number;
}

/** One page of the caller's tasks, newest first. @throws {ProblemError} invalid_request for a cursor that is not one of this list */
export function listTasksUseCase({ sql }: ServiceDeps, estimates: () => Promise<Estimates>) {
  return async (caller: Caller, { filter, limit, cursor }: ListTasksRequest): Promise<TaskPage> => {
    checkRange('created', filter.createdAfter, filter.createdBefore);
    checkRange('ended', filter.endedAfter ?? null, filter.endedBefore ?? null);
    const scope = JSON.stringify([caller.userId, filter]);
    const after = cursor === null ? null : positionOf(cursor, scope);
    const [page, estimateOf] = await Promise.all([listTasks(sql, { ...filter, owner: ownerOf(caller) }, { after, limit }), estimates()]);
    return {
      items: page.rows.map((row) => taskView(row, estimateOf(row.id))),
      next_cursor: page.end === null ? null : cursorOf(page.end, scope),
      total: page.total,
    };
  };
}

export { type StatusFilter, statusFilters } from '../db/tasks.js';
