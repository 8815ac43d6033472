import type { z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { HTTPException } from 'hono/http-exception';
import { type Fault, type ProblemCode, ProblemError, problemTable, problemType } from '../contract/problems.js';
import { Problem } from '../contract/schemas/problem.js';
import { unavailable } from '../service/unavailable.js';
import type { AppEnv } from './env.js';

/** When to try again: a part that is away is back in seconds, a full queue has room when its tasks have run. */
const retryAfterSeconds: Partial<Record<ProblemCode, number>> = { unavailable: 2, host_unavailable: 5, queue_full: 10, too_many_streams: 15 };

/** Responses of a route by status, from the codes it may answer; several codes of one status are told apart by `code`. */
export function problems(...codes: readonly ProblemCode[]) {
  const responses: Record<string, { description: string; content: { 'application/problem+json': { schema: typeof Problem } } }> = {};
  for (const code of codes) {
    const { status, title } = problemTable[code];
    const before = responses[status]?.description;
    const description = `\`${code}\`: ${title}.`;
    responses[status] = {
      description: before === undefined ? description : `${before} ${description}`,
      content: { 'application/problem+json': { schema: Problem } },
    };
  }
  return responses;
}

/** What an error is to the caller: what has a name is told, the rest is logged whole and is `unexpected`, without its message. Says in a header when to try again. */
export function toldProblem(error: unknown, c: Context<AppEnv>): ProblemError {
  const problem = problemOf(error);
  if (problem.code === 'unexpected') c.var.log.error({ err: error }, 'unexpected error');
  else if (problem.code === 'unavailable') c.var.log.warn({ err: problem.cause ?? problem }, 'unavailable');
  const retryAfter = problem.retryAfterSeconds ?? retryAfterSeconds[problem.code];
  if (retryAfter !== undefined) c.header('Retry-After', String(retryAfter));
  return problem;
}

/** The answer of every error of the API. */
export function answerProblem(error: unknown, c: Context<AppEnv>): Response {
  const problem = toldProblem(error, c);
  const { status, title } = problemTable[problem.code];
  const body: z.output<typeof Problem> = {
    type: problemType(problem.code),
    title,
    status,
    detail: problem.message,
    instance: c.req.path,
    code: problem.code,
    request_id: c.var.requestId,
    errors: [...problem.errors],
  };
  if (status === 401) c.header('WWW-Authenticate', 'Bearer realm="ai-task-orchestra"');
  return c.body(JSON.stringify(body), status, { 'Content-Type': 'application/problem+json' });
}

function problemOf(error: unknown): ProblemError {
  if (error instanceof ProblemError) return error;
  const away = unavailable(error);
  if (away !== undefined) return away;
  // Hono's own refusals: a body that the route does not take.
  if (error instanceof HTTPException && error.status === 415) return new ProblemError('unsupported_media_type', 'Send the body as application/json.');
  if (error instanceof HTTPException && error.status === 400) return new ProblemError('invalid_json', 'The body is not valid JSON.');
  return new ProblemError('unexpected', 'Something went wrong here; the log has it under the request id.', { cause: error });
}

/** Faults told one by one: a body of 1 MB can have so many that the answer is many times as large. */
const faultsShownMax = 100;

/** Characters of a value that is repeated. */
const valueShownMax = 60;

const placeNames: Readonly<Record<string, string>> = { query: 'query', param: 'path', header: 'header', cookie: 'cookie' };

/** A request that does not fit its schema, fault by fault. `data` is what was validated. */
export function invalidRequest(target: string, issues: readonly z.core.$ZodIssue[], data: unknown): ProblemError {
  const place = placeNames[target];
  const faults = issues.flatMap((issue) => (target === 'query' ? queryFaultsOf(issue, data) : faultsOf(issue, data)));
  const errors = faults
    .slice(0, faultsShownMax)
    .map((fault) => (place === undefined ? fault : { ...fault, path: fault.path === '' ? place : `${place}.${fault.path}` }));
  const first = errors[0];
  const more = faults.length - errors.length;
  if (more > 0)
    errors.push({ path: place ?? '', expected: 'a request that fits its schema', got: `${more} more faults`, message: `${more} more faults are not shown.` });
  return new ProblemError('invalid_request', first === undefined ? 'The request does not fit its schema.' : `${first.path || 'body'}: ${first.message}`, {
    errors,
  });
}

/** Each name of a query has a list of values, and its schema sees the value itself where there is one. */
function queryFaultsOf(issue: z.core.$ZodIssue, data: unknown): Fault[] {
  const values = Object.fromEntries(Object.entries(data as Record<string, string[]>).map(([name, list]) => [name, list.length === 1 ? list[0] : list]));
  const [name = '', index = 0] = issue.path;
  const value = valueAt(data, [name, index]);
  if (typeof value !== 'string') return faultsOf(issue, values);
  if (issue.code !== 'invalid_value') return faultsOf(issue, values).map((fault) => ({ ...fault, got: describe(value) }));
  // Repeated, since unlike the value of an unknown name it is no secret gone astray.
  const got = JSON.stringify(value.length > valueShownMax ? `${value.slice(0, valueShownMax)}...` : value);
  const expected = expectedOf(issue);
  return [{ path: pathText(issue.path), expected, got, message: `${got} is not ${expected}` }];
}

function faultsOf(issue: z.core.$ZodIssue, data: unknown): Fault[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({
      path: pathText([...issue.path, key]),
      expected: 'nothing of this name',
      got: describe(valueAt(data, [...issue.path, key])),
      message: 'There is no field of this name.',
    }));
  }
  return [{ path: pathText(issue.path), expected: expectedOf(issue), got: describe(valueAt(data, issue.path)), message: issue.message }];
}

function expectedOf(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return issue.expected;
    case 'too_big':
      return `at most ${issue.maximum}`;
    case 'too_small':
      return `at least ${issue.minimum}`;
    case 'invalid_value':
      return `one of ${issue.values.map(String).join(', ')}`;
    case 'invalid_format':
      return issue.format;
    default:
      return issue.message;
  }
}

function pathText(path: readonly PropertyKey[]): string {
  return path
    .reduce<string>((text, part) => (typeof part === 'number' ? `${text}[${part}]` : text === '' ? String(part) : `${text}.${String(part)}`), '')
    .slice(0, 300);
}

function valueAt(data: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (value, part) => (typeof value === 'object' && value !== null && Object.hasOwn(value, part) ? (value as Record<PropertyKey, unknown>)[part] : undefined),
    data,
  );
}

/** What came, by its kind: a text is not repeated, since it may be a secret in the wrong field. */
function describe(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'null';
  if (Array.isArray(value)) return `array of ${value.length}`;
  if (typeof value === 'string') return `text of ${value.length} characters`;
  if (typeof value === 'number' || typeof value === 'boolean') return `${typeof value} ${value}`;
  return 'object';
}
