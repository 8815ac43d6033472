import { createHash } from 'node:crypto';
import { parseTaskId } from '../contract/ids.js';
import { ProblemError } from '../contract/problems.js';
import type { TaskView } from '../contract/schemas/task.js';
import { listTasks, type TaskFilter, type TaskPosition } from '../db/tasks.js';
import { type Caller, ownerOf } from './caller.js';
import type { ServiceDeps } from './deps.js';
import type { Estimates } from './forecasts.js';
import { taskView } from './task-view.js';

export interface ListTasksRequest {
  readonly filter: Omit<TaskFilter, 'owner'>;
  readonly limit: number;
  readonly cursor: string | null;
}

export interface TaskPage {
  readonly items: TaskView[];
  readonly next_cursor: string | null;
  readonly total: number;
}

/** One page of the caller's tasks, newest first. @throws {ProblemError} invalid_request for a cursor that is not one of this list */
export function listTasksUseCase({ sql }: ServiceDeps, estimates: () => Promise<Estimates>) {
  return async (caller: Caller, { filter, limit, cursor }: ListTasksRequest): Promise<TaskPage> => {
    if (filter.createdAfter !== null && filter.createdBefore !== null && filter.createdAfter >= filter.createdBefore) {
      const fault = { path: 'created_after', expected: 'a time before created_before', got: filter.createdAfter.toISOString(), message: 'The range is empty.' };
      throw new ProblemError('invalid_request', 'created_after has to be before created_before.', { errors: [fault] });
    }
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

// A cursor carries a checksum over the caller and the filters it was made for, so that one of another list is refused instead of
// answering a page of nothing. It is no secret: what a caller may see is settled by the query.
const checksumChars = 16;

function cursorOf(position: TaskPosition, scope: string): string {
  const text = `${position.id}${position.createdAt}`;
  return Buffer.from(checksum(text, scope) + text).toString('base64url');
}

function positionOf(cursor: string, scope: string): TaskPosition {
  const decoded = Buffer.from(cursor, 'base64url').toString();
  const text = decoded.slice(checksumChars);
  const id = parseTaskId(text.slice(0, 36));
  if (id === undefined || !isTime(text.slice(36)) || checksum(text, scope) !== decoded.slice(0, checksumChars)) {
    const fault = {
      path: 'cursor',
      expected: 'next_cursor of the page before, with the same filters',
      got: 'another text',
      message: 'This cursor does not belong to this list.',
    };
    throw new ProblemError('invalid_request', fault.message, { errors: [fault] });
  }
  return { id, createdAt: text.slice(36) };
}

/** Whoever knows this code can make a checksum, so that a time is a time is looked at besides. */
function isTime(text: string): boolean {
  const parsed = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/.test(text) ? new Date(text) : null;
  // A day that its month does not have would come back as another one.
  return parsed !== null && !Number.isNaN(parsed.getTime()) && !text.startsWith('0000') && parsed.toISOString().startsWith(text.slice(0, 19));
}

function checksum(text: string, scope: string): string {
  return createHash('sha256').update(`${scope}\0${text}`).digest('base64url').slice(0, checksumChars);
}

export { type StatusFilter, statusFilters } from '../db/tasks.js';
