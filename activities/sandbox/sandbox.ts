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
  /** written in all before the run is ended as over its limit; unlimited when left out */
  readonly outputBytesMax?: number;
  /** called with each piece that the program prints, as it comes; never with half a character */
  onOutput?(stream: 'stdout' | 'stderr', text: string): void;
  /** of one file, and by how much the workspace may grow */
  readonly diskBytes: number;
  /** memory of all its processes together; 0: unlimited */
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

/**
 * Runs programs that nobody trusts. Whatever ends a run, no process of it is left; the one exception is level `none`,
 * where a daemon that also cleared its environment between two looks at the process table can get away.
 */
export interface Sandbox {
  readonly level: SandboxLevel;
  /**
   * @throws {StepFailure} `limit_exceeded` (`details`: `limit` is `timeout_seconds`, `output_bytes`, `memory_gb` or `disk_gb`,
   * with the last 16,000 characters of `stdout` and `stderr`), `sandbox_unavailable`
   * @throws the signal's reason when it aborted, after every process is gone
   */
  run(request: RunRequest): Promise<RunResult>;
}
