import type { z } from 'zod';
import { invalidRequest } from '../api/problem.js';

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
