/** Every code that an answer of the API may carry, with its HTTP status and its title. One table, so that the OpenAPI document cannot promise another status than the code sends. */
export const problemTable = {
  invalid_json: { status: 400, title: 'The body is not acceptable JSON' },
  unauthorized: { status: 401, title: 'No valid credentials' },
  forbidden: { status: 403, title: 'Not allowed' },
  not_found: { status: 404, title: 'Nothing at this address' },
  unknown_model: { status: 404, title: 'No such model' },
  unknown_host: { status: 404, title: 'No such host' },
  unknown_template: { status: 404, title: 'No such template' },
  unknown_checkpoint: { status: 404, title: 'No such checkpoint' },
  unknown_user: { status: 404, title: 'No such user' },
  task_not_found: { status: 404, title: 'No such task' },
  method_not_allowed: { status: 405, title: 'The address does not take this method' },
  user_exists: { status: 409, title: 'The user exists' },
  model_in_use: { status: 409, title: 'Tasks use the model' },
  model_busy: { status: 409, title: 'The host changes its models' },
  task_started: { status: 409, title: 'The task has started' },
  task_not_running: { status: 409, title: 'The task does not run' },
  too_many_locks: { status: 409, title: 'The task has too many locks' },
  neighbour_gone: { status: 409, title: 'The other task does not wait any more' },
  queue_changed: { status: 409, title: 'The queue has changed' },
  superseded: { status: 409, title: 'A later request of yours has taken its place' },
  overtakes_others: { status: 409, title: 'The task would pass tasks of others' },
  task_finished: { status: 409, title: 'The task has ended' },
  task_not_retryable: { status: 409, title: 'Only a failed or cancelled task can be retried' },
  idempotency_conflict: { status: 409, title: 'The idempotency key belongs to another request' },
  dependency_cycle: { status: 409, title: 'The tasks would wait for each other' },
  payload_too_large: { status: 413, title: 'The body is too large' },
  unsupported_media_type: { status: 415, title: 'The body has another type than the address takes' },
  invalid_request: { status: 422, title: 'The request does not fit its schema' },
  invalid_parameters: { status: 422, title: 'The parameters do not fit the template' },
  model_refused: { status: 422, title: 'The model is not allowed' },
  template_not_found: { status: 422, title: 'No such template' },
  resources_exceeded: { status: 422, title: 'The task asks for more than there is' },
  invalid_dependency: { status: 422, title: 'The task cannot wait for that' },
  too_many_attempts: { status: 429, title: 'Too many wrong passwords' },
  too_many_streams: { status: 429, title: 'Too many streams are open' },
  headers_too_large: { status: 431, title: 'The address and the headers are too large' },
  unexpected: { status: 500, title: 'Unexpected error' },
  host_unavailable: { status: 503, title: 'No model server is ready' },
  queue_full: { status: 503, title: 'Too many tasks are queued' },
  unavailable: { status: 503, title: 'A part of the service does not answer' },
} as const satisfies Record<string, { status: number; title: string }>;

export type ProblemCode = keyof typeof problemTable;

/** One fault of a request; `path` starts at the part of the request that is at fault, such as `priority` or `parameters.text`. */
export interface Fault {
  readonly path: string;
  readonly expected: string;
  readonly got: string;
  readonly message: string;
}

/** An outcome with a name that a caller may act on. Services throw it; the API answers it as `application/problem+json`. */
export class ProblemError extends Error {
  override readonly name = 'ProblemError';
  readonly code: ProblemCode;
  readonly errors: readonly Fault[];
  /** when a repeat may go better; undefined: what is usual for the code */
  readonly retryAfterSeconds: number | undefined;

  constructor(code: ProblemCode, detail: string, options: { errors?: readonly Fault[]; cause?: unknown; retryAfterSeconds?: number } = {}) {
    super(detail, { cause: options.cause });
    this.code = code;
    this.errors = options.errors ?? [];
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

/** The `type` of a problem: a stable URI that names it. */
export function problemType(code: ProblemCode): string {
  return `urn:ai-task-orchestra:problem:${code}`;
}
