import { createHash } from 'node:crypto';
import { parseTaskId } from '../contract/ids.js';
import { ProblemError } from '../contract/problems.js';

/** Where a page of a list by time ends: `createdAt` is ISO 8601 in UTC, exact to the microsecond; `id` is a UUID. */
export interface Position {
  readonly createdAt: string;
  readonly id: string;
}

// A cursor carries a checksum over the caller and the filters it was made for, so that one of another list is refused instead of
// answering a page of nothing. It is no secret: what a caller may see is settled by the query.
const checksumChars = 16;

/** @param scope the list, the caller and the filters that the cursor is for */
export function cursorOf(position: Position, scope: string): string {
  const text = `${position.id}${position.createdAt}`;
  return Buffer.from(checksum(text, scope) + text).toString('base64url');
}

/** @throws {ProblemError} invalid_request for a cursor that is not one of this list */
export function positionOf(cursor: string, scope: string): Position {
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
