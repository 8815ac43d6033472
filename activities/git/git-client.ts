export interface CloneRequest {
  readonly repo: string;
  readonly ref?: string;
  /** commits of history, at least 1 */
  readonly depth: number;
  /** absolute; must not exist or hold a finished clone of the same commit */
  readonly directory: string;
  readonly timeoutMs: number;
  readonly bytesMax: number;
  readonly signal: AbortSignal;
}

export interface CloneResult {
  /** 40 hex digits */
  readonly commit: string;
  readonly sizeBytes: number;
}

/** Fetches repositories without trusting them: no hooks, submodules, filters, symlinks, credentials or foreign configuration. */
export interface GitClient {
  /** @throws {StepFailure} `git_url_refused`, `git_ref_not_found`, `git_clone_failed` (retryable), `limit_exceeded`; credentials never in the text */
  clone(request: CloneRequest): Promise<CloneResult>;
}
