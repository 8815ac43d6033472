import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, openSync, closeSync, renameSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isLive, type ProcessFile, processStartTime, readProcessFile, removeProcessFile, writeProcessFile } from './process-file.js';

export interface ChildSpec {
  readonly name: string;
  readonly file: string;
  readonly args: readonly string[];
  /** the whole environment; default: ours */
  readonly env?: Readonly<Record<string, string>>;
  readonly user?: { readonly uid: number; readonly gid: number } | null;
  /** default `/`, since another user may not be allowed into ours */
  readonly cwd?: string;
  readonly port: number | null;
  readonly version: string;
  /** whether it serves now; an error counts as no */
  ready(pid: number): Promise<boolean>;
  readonly readyTimeoutMs: number;
  /** asks it to end cleanly */
  readonly stopSignal: NodeJS.Signals;
  /** after which it is cut */
  readonly stopTimeoutMs: number;
  /** ends it at once, default SIGKILL */
  readonly cutSignal?: NodeJS.Signals;
  /** ends what an earlier process of it left; done before each start of one and after its end */
  sweep?(): Promise<void>;
}

export interface SupervisorOptions {
  /** the installation: `run/` has a file and `logs/` the output of each child */
  readonly home: string;
  /** one line for a person */
  readonly say: (line: string) => void;
  /** pause before the first restart, doubled up to the longest one */
  readonly backoffMs?: { readonly first: number; readonly longest: number };
  /** life after which a child's earlier deaths are forgotten */
  readonly healthyMs?: number;
  /** how often an adopted child, whose end nobody tells us, is looked at */
  readonly watchEveryMs?: number;
}

/** A child did not come up; the message ends with the last line it printed. */
export class ChildFailed extends Error {
  override readonly name = 'ChildFailed';
}

export interface Supervisor {
  /**
   * Starts a child, or adopts the one an earlier supervisor left alive, and returns when it serves. From then on it is started again whenever it ends.
   * @throws {ChildFailed} when it ends three times before it serves, or does not serve in time
   */
  start(spec: ChildSpec): Promise<{ readonly pid: number; readonly adopted: boolean }>;
  /** Ends a child cleanly and starts it again; returns when it serves. */
  restart(name: string): Promise<void>;
  /** Ends children cleanly, all at once, and returns when they are gone. Unknown names are ignored. */
  stop(...names: string[]): Promise<void>;
  /** Ends every child at once and returns when they are gone. */
  cut(): Promise<void>;
  pidOf(name: string): number | null;
}

const startsMax = 3;
const logBytesMax = 20_000_000;

interface Child {
  readonly spec: ChildSpec;
  state: 'starting' | 'up' | 'stopping';
  pid: number | null;
  startTime: string;
  deaths: number;
  /** resolves when the present process is gone */
  gone: Promise<void>;
  /** ends the pause before a restart */
  readonly stopped: AbortController;
}

/**
 * Keeps processes running. Each is in a session of its own and writes to a file, so that it outlives a supervisor that is killed;
 * the next supervisor of the same home finds it by its number and start time.
 */
export function createSupervisor(options: SupervisorOptions): Supervisor {
  const { home, say, backoffMs = { first: 250, longest: 30_000 }, healthyMs = 60_000, watchEveryMs = 500 } = options;
  const children = new Map<string, Child>();

  /** What an earlier supervisor left: adopted when it is the same program and serves, else ended. */
  async function adopt(child: Child): Promise<boolean> {
    const { spec } = child;
    const file = await readProcessFile(home, spec.name);
    if (file === null) return false;
    if (!(await isLive(file))) {
      say(`${spec.name}: cleared the file of process ${file.pid}, which is gone`);
      await removeProcessFile(home, spec.name);
      return false;
    }
    child.pid = file.pid;
    child.startTime = file.startTime;
    child.gone = watched(file);
    if (file.version === spec.version && file.port === spec.port && (await isReady(spec, file.pid, performance.now() + 5_000, () => false))) {
      say(`${spec.name}: adopted process ${file.pid}`);
      return true;
    }
    say(
      `${spec.name}: process ${file.pid} of an earlier start ${file.version === spec.version ? 'does not answer' : `is version ${file.version}`} and is replaced`,
    );
    await end(child);
    return false;
  }

  async function watched(file: ProcessFile): Promise<void> {
    while (await isLive(file)) await delay(watchEveryMs);
  }

  async function launch(child: Child): Promise<void> {
    const { spec } = child;
    await spec.sweep?.();
    const log = openLog(join(home, 'logs'), spec.name);
    let started: ChildProcess;
    try {
      started = spawn(spec.file, spec.args, {
        detached: true, // a Ctrl-C in our terminal is ours to handle
        stdio: ['ignore', log, log],
        cwd: spec.cwd ?? '/',
        ...(spec.env === undefined ? {} : { env: spec.env }),
        ...(spec.user ?? {}),
      });
    } finally {
      closeSync(log);
    }
    child.gone = new Promise((resolve) => {
      started.once('exit', () => resolve());
      started.once('error', () => resolve()); // never began
    });
    child.pid = started.pid ?? null;
    if (started.pid === undefined) return;
    child.startTime = (await processStartTime(started.pid)) ?? '';
    await writeProcessFile(home, spec.name, { pid: started.pid, startTime: child.startTime, port: spec.port, version: spec.version });
  }

  /** Starts it again when it ends, until it is stopped. */
  async function keep(child: Child): Promise<void> {
    const { spec } = child;
    for (;;) {
      const sinceMs = performance.now();
      await child.gone;
      if (child.state === 'stopping') return;
      child.pid = null;
      child.state = 'starting';
      child.deaths = performance.now() - sinceMs >= healthyMs ? 1 : child.deaths + 1;
      const pauseMs = Math.min(backoffMs.longest, backoffMs.first * 2 ** (child.deaths - 1));
      say(`${spec.name}: ended; started again in ${pauseMs} ms`);
      await delay(pauseMs, undefined, { signal: child.stopped.signal }).catch(() => undefined);
      if (child.stopped.signal.aborted) return;
      await launch(child);
      if (!child.stopped.signal.aborted) child.state = 'up';
    }
  }

  async function begin(child: Child): Promise<void> {
    const { spec } = child;
    const deadlineMs = performance.now() + spec.readyTimeoutMs;
    for (let starts = 1; ; starts++) {
      await launch(child);
      let over = false;
      void child.gone.then(() => {
        over = true;
      });
      if (child.pid !== null && (await isReady(spec, child.pid, deadlineMs, () => over || child.state === 'stopping'))) return;
      if (child.state === 'stopping') throw new ChildFailed(`${spec.name} was stopped before it served.`);
      const inTime = performance.now() <= deadlineMs;
      if (inTime && starts < startsMax) continue;
      await end(child);
      children.delete(spec.name);
      const last = await lastLine(join(home, 'logs', `${spec.name}.log`));
      throw new ChildFailed(
        `${spec.name} ${inTime ? 'ended before it served' : `did not serve within ${Math.round(spec.readyTimeoutMs / 1000)} s`}: ${last || `see ${join(home, 'logs', `${spec.name}.log`)}`}`,
      );
    }
  }

  async function end(child: Child, cut = false): Promise<void> {
    const { spec } = child;
    child.state = 'stopping';
    child.stopped.abort();
    if (child.pid !== null) {
      signal(child, cut ? (spec.cutSignal ?? 'SIGKILL') : spec.stopSignal);
      const late = new AbortController();
      const timer = delay(spec.stopTimeoutMs, undefined, { signal: late.signal }).then(
        () => {
          say(`${spec.name}: did not end within ${Math.round(spec.stopTimeoutMs / 1000)} s and is cut`);
          signal(child, spec.cutSignal ?? 'SIGKILL');
        },
        () => undefined,
      );
      await child.gone;
      late.abort();
      await timer;
    }
    child.pid = null;
    await spec.sweep?.();
    await removeProcessFile(home, spec.name);
  }

  return {
    async start(spec) {
      const child: Child = { spec, state: 'starting', pid: null, startTime: '', deaths: 0, gone: Promise.resolve(), stopped: new AbortController() };
      children.set(spec.name, child);
      const adopted = await adopt(child);
      const fresh = adopted ? child : { ...child, state: 'starting' as const, stopped: new AbortController() };
      children.set(spec.name, fresh);
      if (!adopted) await begin(fresh);
      fresh.state = 'up';
      void keep(fresh);
      return { pid: fresh.pid as number, adopted };
    },
    async restart(name) {
      const child = children.get(name);
      if (child === undefined) return;
      await end(child);
      await this.start(child.spec);
    },
    async stop(...names) {
      await Promise.all(
        names.map(async (name) => {
          const child = children.get(name);
          if (child === undefined) return;
          await end(child);
          children.delete(name);
        }),
      );
    },
    async cut() {
      await Promise.all([...children.values()].map((child) => end(child, true)));
      children.clear();
    },
    pidOf: (name) => children.get(name)?.pid ?? null,
  };
}

async function isReady(spec: ChildSpec, pid: number, deadlineMs: number, givenUp: () => boolean): Promise<boolean> {
  while (!givenUp()) {
    if (await spec.ready(pid).catch(() => false)) return true;
    if (performance.now() > deadlineMs) return false;
    await delay(50);
  }
  return false;
}

/** A process that is gone needs no signal. */
function signal(child: Child, name: NodeJS.Signals): void {
  if (child.pid === null) return;
  try {
    process.kill(child.pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function openLog(directory: string, name: string): number {
  mkdirSync(directory, { recursive: true });
  const path = join(directory, `${name}.log`);
  try {
    if (statSync(path).size > logBytesMax) renameSync(path, `${path}.1`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  return openSync(path, 'a', 0o640);
}

async function lastLine(path: string): Promise<string> {
  try {
    const file = await open(path);
    try {
      const { size } = await file.stat();
      const { buffer, bytesRead } = await file.read(Buffer.alloc(4_096), 0, 4_096, Math.max(0, size - 4_096));
      return buffer.subarray(0, bytesRead).toString('utf8').trim().split('\n').at(-1) ?? '';
    } finally {
      await file.close();
    }
  } catch {
    return '';
  }
}
