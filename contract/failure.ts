import type { JsonValue } from './json.js';

/** Codes a failed step or task carries in `error.code`. A step type may add its own; these have a meaning to the engine. */
export const failureCodes = {
  /** the slot was taken back or given to another run; the step enters the line again, not an attempt */
  grantVoid: 'GrantVoid',
  /** the activity was paused, reset or its worker shut down; the step enters the line again, not an attempt */
  grantReturned: 'GrantReturned',
  /** the step was aborted because its task is being cancelled */
  cancelled: 'cancelled',
  stepFailed: 'step_failed',
  invalidInput: 'invalid_step_input',
  templateError: 'template_error',
  limitExceeded: 'limit_exceeded',
  timeout: 'timeout',
  poison: 'poison',
  endedOutside: 'ended_outside',
  modelNotFound: 'model_not_found',
  modelPullFailed: 'model_pull_failed',
  modelOutOfMemory: 'model_out_of_memory',
  modelLoadTimeout: 'model_load_timeout',
  modelDigestMismatch: 'model_digest_mismatch',
  /** images were given to a model that cannot see */
  modelLacksVision: 'model_lacks_vision',
  /** `think` was asked of a model that only answers */
  modelLacksThinking: 'model_lacks_thinking',
  /** text was asked of a model that only embeds */
  modelLacksCompletion: 'model_lacks_completion',
  modelLacksEmbedding: 'model_lacks_embedding',
  backendUnavailable: 'backend_unavailable',
  unexpected: 'unexpected',
} as const;

/** A failure with a name that a caller may act on; anything else that a step throws is `unexpected`, logged whole and retried. */
export class StepFailure extends Error {
  override readonly name = 'StepFailure';
  readonly code: string;
  readonly retryable: boolean;
  readonly details: JsonValue;

  constructor(code: string, message: string, options: { retryable: boolean; details?: JsonValue; cause?: unknown }) {
    super(message, { cause: options.cause });
    this.code = code;
    this.retryable = options.retryable;
    this.details = options.details ?? null;
  }
}

/** A failure as it is stored and shown: `error` of a task. */
export interface FailureInfo {
  readonly code: string;
  readonly message: string;
  readonly step: string | null;
  readonly attempt: number;
  readonly details?: JsonValue;
}
