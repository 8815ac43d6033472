import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import { failureCodes, StepFailure } from '../../contract/failure.js';
import type { JsonObject } from '../../contract/json.js';
import { directorySize } from '../directory-size.js';
import { HeadAndTail } from './head-and-tail.js';
import { type ProcessSeen, processTree, signalProcess } from './process-tree.js';
import type { RunRequest, RunResult, SandboxLevel } from './sandbox.js';

/** A program with its fence around it, ready to be started. */
export interface Fenced {
  readonly level: SandboxLevel;
  readonly file: string;
  readonly args: readonly string[];
  readonly cwd: string;
  /** environment of the fence itself; the program's own is in `args` or `privateOptions` */
  readonly env: Readonly<Record<string, string>>;
  /** text for file descriptor 3, which no other user can read; with it comes a status report of bubblewrap on 4 */
  readonly privateOptions?: string;
  /** told once the first process runs */
  started(pid: number): void;
  /** ends every process of the run and returns when they are gone */
  killAll(pid: number): Promise<void>;
}

/** Time for a program to end by itself after SIGTERM. */
const graceMs = 500;
/** Time between two looks at memory; disk takes longer to look at and so is looked at less often. */
const watchMs = 200;
const diskWatchMs = 1000;
const filesMax = 200_000;
/** Characters of each stream that a failure carries: it is stored with the task and shown in lists. */
const detailCharsMax = 16_000;
const timerMsMax = 2 ** 31 - 1;

type LimitName = 'timeout_seconds' | 'output_bytes' | 'memory_gb' | 'disk_gb';

/** Runs a fenced program to its end. See {@link RunRequest} for limits and errors. */
export async function runFenced(fenced: Fenced, request: RunRequest): Promise<RunResult> {
  request.signal.throwIfAborted();
  const startedAt = process.hrtime.bigint();
  const before = await directorySize(request.workspace, Number.POSITIVE_INFINITY);
  const reports = fenced.privateOptions === undefined ? [] : (['pipe', 'pipe'] as const);
  const child = spawn(fenced.file, fenced.args, { cwd: fenced.cwd, env: { ...fenced.env }, detached: true, stdio: ['ignore', 'pipe', 'pipe', ...reports] });
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (error) =>
      reject(new StepFailure('sandbox_unavailable', `the sandbox could not start ${fenced.file}: ${error.message}`, { retryable: false, cause: error })),
    );
  });
  const pid = child.pid as number;
  fenced.started(pid);

  const run = new WatchedRun(fenced, request, child, pid, before);
  const status = fenced.privateOptions === undefined ? undefined : exchange(child, fenced.privateOptions);
  const stopWatching = run.watch();
  const ended = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
  const [code, signalName] = await ended;
  stopWatching();
  await fenced.killAll(pid);
  await run.endingDone(); // a kill that came later would hit the next run of the same user
  await drained(child);

  const stdout = run.stdout.text();
  const stderr = run.stderr.text();
  request.signal.throwIfAborted();
  await run.checkAfterwards(code, signalName, stderr);
  if (run.passed) {
    const details: JsonObject = {
      limit: run.passed.limit,
      stdout: stdout.slice(-detailCharsMax),
      stderr: stderr.slice(-detailCharsMax),
      truncated: run.stdout.truncated || run.stderr.truncated,
    };
    throw new StepFailure(failureCodes.limitExceeded, `the script was ended: ${run.passed.why}`, { retryable: false, details });
  }
  if (status !== undefined && !status.programEnded()) {
    throw new StepFailure('sandbox_unavailable', `the sandbox could not be set up: ${stderr.trim().slice(-500)}`, { retryable: true });
  }
  return {
    exitCode: code,
    killedBy: signalName,
    stdout,
    stderr,
    stdoutBytes: run.stdout.totalBytes,
    stderrBytes: run.stderr.totalBytes,
    truncated: run.stdout.truncated || run.stderr.truncated,
    cpuSeconds: run.cpuSeconds,
    memoryBytesMax: run.memoryBytesMax,
    durationMs: Number((process.hrtime.bigint() - startedAt) / 1_000_000n),
    level: fenced.level,
  };
}

class WatchedRun {
  readonly stdout: HeadAndTail;
  readonly stderr: HeadAndTail;
  /** highest seen; null for runs too short to be looked at */
  memoryBytesMax: number | null = null;
  cpuSeconds: number | null = null;
  passed: { readonly limit: LimitName; readonly why: string } | undefined;
  readonly #fenced: Fenced;
  readonly #request: RunRequest;
  readonly #child: ChildProcess;
  readonly #pid: number;
  readonly #before: { readonly bytes: number; readonly entries: number };
  #ending: Promise<void> | undefined;

  constructor(fenced: Fenced, request: RunRequest, child: ChildProcess, pid: number, before: { bytes: number; entries: number }) {
    this.#fenced = fenced;
    this.#request = request;
    this.#child = child;
    this.#pid = pid;
    this.#before = before;
    this.stdout = new HeadAndTail(request.outputBytes);
    this.stderr = new HeadAndTail(request.outputBytes);
    this.#collect(child.stdout, this.stdout, 'stdout');
    this.#collect(child.stderr, this.stderr, 'stderr');
  }

  /** Starts the limits that need a look from outside; returns what stops them. */
  watch(): () => void {
    const { signal, timeoutMs } = this.#request;
    const onAbort = (): void => this.#end();
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    const seconds = Math.ceil(timeoutMs / 1000);
    const timeout = setTimeout(
      () => this.#pass('timeout_seconds', `it ran longer than its limit of ${seconds} seconds`),
      Math.min(Math.max(1, timeoutMs), timerMsMax),
    );
    const stops = [this.#repeat(watchMs, () => this.#lookAtProcesses()), this.#repeat(diskWatchMs, () => this.#lookAtDisk())];
    return () => {
      clearTimeout(timeout);
      signal.removeEventListener('abort', onAbort);
      for (const stop of stops) stop();
    };
  }

  /** Names the limit when the kernel, not we, enforced it. */
  async checkAfterwards(code: number | null, signalName: NodeJS.Signals | null, stderr: string): Promise<void> {
    if (this.passed) return;
    await this.#lookAtDisk();
    if (this.passed || code === 0) return;
    const { diskBytes, memoryBytes } = this.#request;
    // 128 + SIGXFSZ is how a shell and bubblewrap report the signal of a file over its limit; others see EFBIG.
    if (signalName === 'SIGXFSZ' || code === 153 || /File too large/.test(stderr))
      this.passed = { limit: 'disk_gb', why: `it wrote a file larger than its limit of ${diskBytes} bytes` };
    else if (memoryBytes > 0 && /MemoryError|Cannot allocate memory|bad_alloc|out of memory|memory exhausted/i.test(stderr)) {
      this.passed = { limit: 'memory_gb', why: `it asked for more memory than its limit of ${memoryBytes} bytes` };
    }
  }

  /** Returns when nothing that this run started to end it is under way. */
  async endingDone(): Promise<void> {
    await this.#ending?.catch(() => undefined); // killAll was called at the end of the run too, where its error counts
  }

  #collect(stream: Readable | null, into: HeadAndTail, name: 'stdout' | 'stderr'): void {
    const decoder = new StringDecoder('utf8');
    stream?.on('data', (chunk: Buffer) => {
      into.add(chunk);
      this.#request.onOutput?.(name, decoder.write(chunk));
      const most = this.#request.outputBytesMax;
      if (most !== undefined && this.stdout.totalBytes + this.stderr.totalBytes > most)
        this.#pass('output_bytes', `it printed more than its limit of ${most} bytes`);
    });
    stream?.on('error', () => undefined); // the pipe of a killed process; its end is what counts
  }

  async #lookAtProcesses(): Promise<void> {
    const tree = await processTree(this.#pid);
    if (tree.length === 0) return;
    const memoryBytes = sum(tree, (seen) => seen.memoryBytes);
    this.memoryBytesMax = Math.max(this.memoryBytesMax ?? 0, memoryBytes);
    this.cpuSeconds = Math.max(
      this.cpuSeconds ?? 0,
      sum(tree, (seen) => seen.cpuSeconds),
    );
    const most = this.#request.memoryBytes;
    if (most > 0 && memoryBytes > most) this.#pass('memory_gb', `its processes used more memory than their limit of ${most} bytes`);
  }

  async #lookAtDisk(): Promise<void> {
    const { bytes, entries, tooDeep } = await directorySize(this.#request.workspace, this.#before.entries + filesMax);
    const most = this.#request.diskBytes;
    if (bytes - this.#before.bytes > most) this.#pass('disk_gb', `it wrote more than its limit of ${most} bytes`);
    else if (entries - this.#before.entries > filesMax) this.#pass('disk_gb', `it made more than ${filesMax} files`);
    else if (tooDeep) this.#pass('disk_gb', 'it nested directories deeper than they can be measured');
  }

  #pass(limit: LimitName, why: string): void {
    this.passed ??= { limit, why };
    this.#end();
  }

  /** SIGTERM to the program and all it started, then, after the grace, the end of everything. */
  #end(): void {
    this.#ending ??= (async () => {
      const tree = await processTree(this.#pid);
      // Bubblewrap's two own processes stay: they would take the rest down without its grace.
      const program = this.#fenced.level === 'bwrap' ? tree.slice(2) : tree;
      for (const seen of program) signalProcess(seen.pid, 'SIGTERM');
      const exited = this.#child.exitCode !== null || this.#child.signalCode !== null ? Promise.resolve() : once(this.#child, 'exit');
      await Promise.race([exited, new Promise((resolve) => setTimeout(resolve, graceMs))]);
      await this.#fenced.killAll(this.#pid);
    })();
    this.#ending.catch(() => undefined); // awaited by endingDone
  }

  #repeat(everyMs: number, look: () => Promise<void>): () => void {
    let stopped = false;
    let timer: NodeJS.Timeout | undefined;
    const next = (waitMs: number): void => {
      if (stopped) return;
      timer = setTimeout(async () => {
        const before = performance.now();
        await look().catch(() => undefined); // a look that fails is repeated; the time limit still holds
        next(Math.max(everyMs, 5 * (performance.now() - before)));
      }, waitMs);
    };
    next(everyMs);
    return () => {
      stopped = true;
      clearTimeout(timer);
    };
  }
}

/** Hands bubblewrap its options and reads its report; a report without an exit code means that the program never ran to its end. */
function exchange(child: ChildProcess, options: string): { programEnded(): boolean } {
  const input = child.stdio[3] as Writable;
  const report = child.stdio[4] as Readable;
  let text = '';
  input.on('error', () => undefined); // bubblewrap ended early; the missing exit code says so
  input.end(options);
  report.on('data', (chunk: Buffer) => {
    text = (text + chunk.toString('utf8')).slice(-4096);
  });
  report.on('error', () => undefined);
  return { programEnded: () => text.includes('"exit-code"') };
}

/** Waits for the pipes to run dry. Nobody is left to write to them, except where level `none` lost a daemon: then they are closed. */
async function drained(child: ChildProcess): Promise<void> {
  const streams = child.stdio.filter((stream): stream is Readable | Writable => stream !== null && stream !== undefined);
  const open = streams.filter((stream) => !stream.closed);
  const closed = Promise.all(open.map((stream) => once(stream, 'close')));
  await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, 500).unref())]).catch(() => undefined);
  for (const stream of streams) stream.destroy();
}

function sum(tree: readonly ProcessSeen[], of: (seen: ProcessSeen) => number): number {
  return tree.reduce((total, seen) => total + of(seen), 0);
}
