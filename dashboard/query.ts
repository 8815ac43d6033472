import type { z } from 'zod';
import { invalidRequest } from '../api/problem.js';
import { ProblemError } from '../contract/problems.js';

/**
 * The query of a page by a schema of the API. A form sends its empty fields too, which mean nothing here.
 * @throws {ProblemError} invalid_request
 */
export function queryOf<S extends z.ZodType>(schema: S, url: URL): z.output<S> {
  const values: Record<string, string[]> = {};
  for (const [name, value] of url.searchParams) if (value !== '') (values[name] ??= []).push(value);
  const flat = Object.fromEntries(Object.entries(values).map(([name, of]) => [name, of.length === 1 ? of[0] : of]));
  const parsed = schema.safeParse(flat);
  if (parsed.success) return parsed.data;
  throw invalidRequest('query', parsed.error.issues, values);
}

/** One of some numbers in the query of a page; null when it is not there. @throws {ProblemError} invalid_request for any other */
export function wholeOf<const N extends number>(url: URL, name: string, allowed: readonly N[]): N | null {
  const text = url.searchParams.get(name);
  if (text === null || text === '') return null;
  const found = allowed.find((each) => String(each) === text);
  if (found !== undefined) return found;
  const expected = `one of ${allowed.join(', ')}`;
  throw new ProblemError('invalid_request', `${name} is ${expected}.`, {
    errors: [{ path: `query.${name}`, expected, got: 'another value', message: `expected ${expected}` }],
  });
}
