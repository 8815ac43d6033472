/** How strongly scripts are fenced. `bwrap`: namespaces, no network, no host files; `uid`: another user and limits; `none`: limits alone. */
export type SandboxLevel = 'bwrap' | 'uid' | 'none';

export interface RunRequest {
  /** program and arguments; never a shell string */
  readonly argv: readonly string[];
  /** absolute; the only place the program may write */
  readonly workspace: string;
  /** relative to the workspace */
  readonly cwd: string;
  /** the whole environment beside PATH, HOME, LANG and TMPDIR */
  readonly env: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  /** kept of each of stdout and stderr: head and tail */
  readonly outputBytes: number;
  readonly diskBytes: number;
  readonly memoryBytes: number;
  readonly signal: AbortSignal;
}

export interface RunResult {
  /** null when a signal ended it */
  readonly exitCode: number | null;
  readonly killedBy: string | null;
  readonly stdout: string;
  readonly stderr: string;
  /** bytes written in all, and whether some were dropped */
  readonly stdoutBytes: number;
  readonly stderrBytes: number;
  readonly truncated: boolean;
  readonly cpuSeconds: number | null;
  readonly memoryBytesMax: number | null;
  readonly durationMs: number;
  readonly level: SandboxLevel;
}

/** Runs programs that nobody trusts. Whatever ends a run, no process of it is left. */
export interface Sandbox {
  readonly level: SandboxLevel;
  /** @throws {StepFailure} `limit_exceeded` (time, with what was printed so far in `details`), `sandbox_unavailable` */
  run(request: RunRequest): Promise<RunResult>;
}
