import type { z } from 'zod';
import { ProblemError } from '../contract/problems.js';

/**
 * What a form says, by a schema of the API; values are not repeated, since there are passwords among them.
 * @param names how the page calls the fields
 * @throws {ProblemError} invalid_request
 */
export function formOf<S extends z.ZodType>(schema: S, fields: object, names: Readonly<Record<string, string>>): z.output<S> {
  const parsed = schema.safeParse(fields);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map(({ path: [field = ''], message }) => `${names[String(field)] ?? 'The form'}: ${message}.`);
  throw new ProblemError('invalid_request', [...new Set(faults)].join(' '));
}
