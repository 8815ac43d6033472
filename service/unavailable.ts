import { ProblemError } from '../contract/problems.js';
import { DatabaseUnavailable } from '../db/connect.js';

/** Whether the connection broke, so that nobody knows whether the last statement was carried out; a database that is merely silent is not asked again. */
export function connectionBroke(error: unknown): boolean {
  return error instanceof DatabaseUnavailable && error.cause !== undefined;
}

/** A database that is away, silent or too slow as the outcome a caller may act on; undefined for any other error. */
export function unavailable(error: unknown): ProblemError | undefined {
  if (!(error instanceof DatabaseUnavailable)) return undefined;
  return new ProblemError('unavailable', 'The database does not answer at the moment; try again.', { cause: error });
}
