import { createHash } from 'node:crypto';
import { parseTaskId } from '../contract/ids.js';
import { ProblemError } from '../contract/problems.js';

/** Where a page of a list by time ends: `createdAt` is ISO 8601 in UTC, exact to the microsecond; `id` is a UUID. */
export interface Position {
  readonly createdAt: string;
  readonly id: string;
}

// A cursor carries a checksum over the caller and the filters it was made for, so that one of another list is refused instead of
// answering a page of nothing. It is no secret, and anybody can make one: what a caller may see is settled by the query, and what a cursor holds is looked at.
const checksumChars = 16;

/**
 * A text as a cursor.
 * @param scope the list, the caller and the filters that the cursor is for
 */
export function sealCursor(text: string, scope: string): string {
  return Buffer.from(checksum(text, scope) + text).toString('base64url');
}

/** The text of a cursor. @throws {ProblemError} invalid_request for one of another list */
export function openCursor(cursor: string, scope: string): string {
  const decoded = Buffer.from(cursor, 'base64url').toString();
  const text = decoded.slice(checksumChars);
  if (checksum(text, scope) !== decoded.slice(0, checksumChars)) throw foreignCursor();
  return text;
}

export function foreignCursor(): ProblemError {
  const fault = {
    path: 'cursor',
    expected: 'next_cursor of the page before, with the same filters',
    got: 'another text',
    message: 'This cursor does not belong to this list.',
  };
  return new ProblemError('invalid_request', fault.message, { errors: [fault] });
}

/** @returns 16 characters */
export function checksum(text: string, scope: string): string {
  return createHash('sha256').update(`${scope}\0${text}`).digest('base64url').slice(0, checksumChars);
}

/** @param scope as of {@link sealCursor} */
export function cursorOf(position: Position, scope: string): string {
  return sealCursor(`${position.id}${position.createdAt}`, scope);
}

/** @throws {ProblemError} invalid_request for a cursor that is not one of this list */
export function positionOf(cursor: string, scope: string): Position {
  const text = openCursor(cursor, scope);
  const id = parseTaskId(text.slice(0, 36));
  if (id === undefined || !isTime(text.slice(36))) throw foreignCursor();
  return { id, createdAt: text.slice(36) };
}

function isTime(text: string): boolean {
  const parsed = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/.test(text) ? new Date(text) : null;
  // A day that its month does not have would come back as another one.
  return parsed !== null && !Number.isNaN(parsed.getTime()) && !text.startsWith('0000') && parsed.toISOString().startsWith(text.slice(0, 19));
}
