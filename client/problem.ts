import type { Fault } from '../contract/problems.js';

/** A refusal of the API (problem+json, RFC 9457), or an answer that is none of its. */
export class ApiProblem extends Error {
  override readonly name = 'ApiProblem';
  /** one of the API's codes; `unexpected_answer` when something else answered, such as a proxy */
  readonly code: string;
  readonly status: number;
  readonly title: string;
  readonly detail: string;
  /** what is wrong, part by part; empty when there is nothing to tell apart */
  readonly errors: readonly Fault[];
  /** the same as in the server's log; null when something else answered */
  readonly requestId: string | null;
  readonly retryAfterSeconds: number | null;

  constructor(fields: Omit<ApiProblem, keyof Error>) {
    super(fields.detail);
    this.code = fields.code;
    this.status = fields.status;
    this.title = fields.title;
    this.detail = fields.detail;
    this.errors = fields.errors;
    this.requestId = fields.requestId;
    this.retryAfterSeconds = fields.retryAfterSeconds;
  }
}

/** No answer came: nothing listens there, the connection broke, or it took longer than `timeoutMs`. */
export class ApiUnreachable extends Error {
  override readonly name = 'ApiUnreachable';
  readonly baseUrl: string;

  constructor(baseUrl: string, why: string, cause?: unknown) {
    super(`${baseUrl} ${why}`, { cause });
    this.baseUrl = baseUrl;
  }
}

const textOf = (value: unknown, otherwise: string): string => (typeof value === 'string' && value !== '' ? value : otherwise);

/** Reads a refusal. Whatever the body holds, the outcome is an ApiProblem. */
export async function problemOf(response: Response): Promise<ApiProblem> {
  const text = await response.text().catch(() => '');
  const retryAfterSeconds = retryAfterOf(response);
  if (/\bjson\b/.test(response.headers.get('content-type') ?? '')) {
    try {
      const body = JSON.parse(text) as Record<string, unknown>;
      if (typeof body['code'] === 'string') {
        return new ApiProblem({
          code: body['code'],
          status: response.status,
          title: textOf(body['title'], body['code']),
          detail: textOf(body['detail'], 'No reason was given.'),
          errors: Array.isArray(body['errors']) ? (body['errors'] as Fault[]) : [],
          requestId: textOf(body['request_id'], '') || null,
          retryAfterSeconds,
        });
      }
    } catch {
      // not the API's own answer
    }
  }
  const detail = `${response.url || 'The address'} answered ${response.status} with something that is no answer of this API.`;
  return new ApiProblem({
    code: 'unexpected_answer',
    status: response.status,
    title: 'Unexpected answer',
    detail,
    errors: [],
    requestId: null,
    retryAfterSeconds,
  });
}

/** `Retry-After` in seconds; null when there is none, or it is a date. */
function retryAfterOf(response: Response): number | null {
  const text = response.headers.get('retry-after') ?? '';
  return /^\d{1,6}$/.test(text) ? Number(text) : null;
}
