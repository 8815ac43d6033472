import { ProblemError } from '../contract/problems.js';
import { DatabaseUnavailable } from '../db/connect.js';

/**
 * Whether the connection broke, so that nobody knows whether the last statement was carried out. A database that is merely silent is not asked again, nor one
 * that took too long: the same statement would add to what slows it.
 */
export function connectionBroke(error: unknown): boolean {
  return error instanceof DatabaseUnavailable && error.cause !== undefined && !error.tooSlow;
}

/** A database that is away, silent or too slow as the outcome a caller may act on; undefined for any other error. */
export function unavailable(error: unknown): ProblemError | undefined {
  if (!(error instanceof DatabaseUnavailable)) return undefined;
  const detail = error.tooSlow
    ? 'The database took too long and carried out nothing of it; try again later, or less at a time.'
    : 'The database does not answer at the moment; try again.';
  return new ProblemError('unavailable', detail, { cause: error });
}
