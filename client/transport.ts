import { setTimeout as delay } from 'node:timers/promises';
import { ApiProblem, ApiUnreachable, problemOf } from './problem.js';

export interface ClientOptions {
  /** such as `http://127.0.0.1:8080`; a path before `/api/v1` is kept */
  readonly baseUrl: string;
  /** sent as `Authorization: Bearer`; without it only public addresses answer */
  readonly apiKey?: string;
  /** default: the global one */
  readonly fetch?: typeof fetch;
  /** how long one answer may take, its body included; default 30,000. Streams have no such limit */
  readonly timeoutMs?: number;
  /** attempts of a call that may be repeated, the first included; default 4 */
  readonly attemptsMax?: number;
}

export type QueryValue = string | number | boolean | readonly (string | number)[] | undefined;

export interface Call {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  /** below the base URL, with its parts encoded */
  readonly path: string;
  readonly query?: Readonly<Record<string, QueryValue>>;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** whether doing it twice is the same as doing it once; default: all but POST */
  readonly repeatable?: boolean;
  readonly signal?: AbortSignal | undefined;
}

export interface Transport {
  readonly baseUrl: string;
  json<Answer>(call: Call): Promise<Answer>;
  text(call: Call): Promise<string>;
  /** The answer with its body unread, tried once; a refusal is thrown. */
  open(call: Call): Promise<Response>;
}

/** Answers that say "not now": the call was not carried out. */
const notNow: readonly number[] = [429, 502, 503, 504];
const retryAfterMaxMs = 30_000;

/** Adds a query to a path; a list repeats its name, undefined is left out. */
export function withQuery(path: string, query: Readonly<Record<string, QueryValue>> = {}): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value === undefined) continue;
    for (const one of Array.isArray(value) ? value : [value]) params.append(name, String(one));
  }
  return params.size === 0 ? path : `${path}?${params}`;
}

export function createTransport(options: ClientOptions): Transport {
  const baseUrl = options.baseUrl.replace(/\/+$/, '');
  const { fetch: send = fetch, timeoutMs = 30_000, attemptsMax = 4 } = options;

  async function once(call: Call, signal: AbortSignal | undefined): Promise<Response> {
    const headers: Record<string, string> = {
      ...(options.apiKey === undefined ? {} : { authorization: `Bearer ${options.apiKey}` }),
      ...(call.body === undefined ? {} : { 'content-type': 'application/json' }),
      ...call.headers,
    };
    const init: RequestInit = { method: call.method, headers, redirect: 'error' };
    if (call.body !== undefined) init.body = JSON.stringify(call.body);
    if (signal !== undefined) init.signal = signal;
    const response = await send(`${baseUrl}${withQuery(call.path, call.query)}`, init);
    if (!response.ok) throw await problemOf(response);
    return response;
  }

  /** One attempt with a time limit that spans the body as well. */
  async function attempt<Answer>(call: Call, read: (response: Response) => Promise<Answer>): Promise<Answer> {
    const limit = AbortSignal.timeout(timeoutMs);
    try {
      return await read(await once(call, call.signal === undefined ? limit : AbortSignal.any([call.signal, limit])));
    } catch (error) {
      throw call.signal?.aborted ? call.signal.reason : unreachableOr(error, baseUrl, limit.aborted ? `gave no answer within ${timeoutMs / 1_000} s` : null);
    }
  }

  async function repeated<Answer>(call: Call, read: (response: Response) => Promise<Answer>): Promise<Answer> {
    const attempts = (call.repeatable ?? call.method !== 'POST') ? attemptsMax : 1;
    for (let made = 1; ; made += 1) {
      try {
        return await attempt(call, read);
      } catch (error) {
        const passing = error instanceof ApiUnreachable || (error instanceof ApiProblem && notNow.includes(error.status));
        if (!passing || made >= attempts) throw error;
        await pause(pauseMs(error, made), call.signal);
      }
    }
  }

  return {
    baseUrl,
    json: (call) =>
      repeated({ ...call, headers: { accept: 'application/json', ...call.headers } }, async (response) => {
        const text = await response.text();
        try {
          return JSON.parse(text);
        } catch {
          throw await problemOf(new Response(text, { status: response.status }));
        }
      }),
    text: (call) => repeated(call, (response) => response.text()),
    async open(call) {
      try {
        return await once(call, call.signal);
      } catch (error) {
        throw call.signal?.aborted ? call.signal.reason : unreachableOr(error, baseUrl, null);
      }
    },
  };
}

/** @throws the signal's reason, where Node's own timer throws one that tells nothing */
export async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await delay(ms, undefined, signal === undefined ? {} : { signal }).catch((error: unknown) => {
    throw signal?.aborted ? signal.reason : error;
  });
}

/** What the server asks for, else a growing pause with some chance in it, so that many callers do not come back together. */
function pauseMs(error: ApiProblem | ApiUnreachable, made: number): number {
  if (error instanceof ApiProblem && error.retryAfterSeconds !== null) return Math.min(error.retryAfterSeconds * 1_000, retryAfterMaxMs);
  return 250 * 2 ** (made - 1) * (0.5 + Math.random());
}

export function unreachableOr(error: unknown, baseUrl: string, why: string | null): unknown {
  if (error instanceof ApiProblem || error instanceof ApiUnreachable) return error;
  return new ApiUnreachable(baseUrl, why ?? `does not answer (${reasonOf(error)})`, error);
}

/** What fetch hides in its cause, such as ECONNREFUSED. */
function reasonOf(error: unknown): string {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  const code = (cause as { code?: unknown } | null)?.code;
  if (typeof code === 'string') return code;
  return cause instanceof Error ? cause.message : String(cause);
}
