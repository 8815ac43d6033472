import { readdir, readFile } from 'node:fs/promises';
import { basename, join, sep } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** A process as /proc tells it. */
export interface RunningProcess {
  readonly pid: number;
  readonly parentPid: number;
  /** the command line, the program first */
  readonly args: readonly string[];
}

const goneTimeoutMs = 10_000;

/**
 * Which processes are runners that hold a model of this folder for no server: each Ollama starts its own, and nothing else would ever end them.
 * @param modelsDir absolute, as the server was given it
 */
export function orphanRunners(processes: readonly RunningProcess[], modelsDir: string): number[] {
  const servers = new Set(processes.filter(({ args }) => isOllama(args) && args[1] === 'serve').map(({ pid }) => pid));
  return processes
    .filter(({ args, parentPid }) => isOllama(args) && args[1] === 'runner' && modelOf(args)?.startsWith(join(modelsDir, sep)) && !servers.has(parentPid))
    .map(({ pid }) => pid);
}

/** Ends the orphaned runners of this folder at once and returns, when they are gone, how many there were. Without a Linux /proc it finds none. */
export async function endOrphanRunners(modelsDir: string): Promise<number> {
  const pids = orphanRunners(await runningProcesses(), modelsDir);
  for (const pid of pids) kill(pid);
  for (const deadlineMs = performance.now() + goneTimeoutMs; performance.now() < deadlineMs; await delay(20)) {
    if (!orphanRunners(await runningProcesses(), modelsDir).some((pid) => pids.includes(pid))) break;
  }
  return pids.length;
}

function isOllama(args: readonly string[]): boolean {
  return basename(args[0] ?? '').startsWith('ollama');
}

function modelOf(args: readonly string[]): string | undefined {
  const at = args.indexOf('--model');
  return at === -1 ? undefined : args[at + 1];
}

async function runningProcesses(): Promise<RunningProcess[]> {
  if (process.platform !== 'linux') return [];
  const entries = (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry));
  return (await Promise.all(entries.map(readProcess))).flat();
}

/** None when it ended meanwhile; one that ended and was not waited for has no command line any more. */
async function readProcess(entry: string): Promise<RunningProcess[]> {
  try {
    const [stat, commandLine] = await Promise.all([readFile(`/proc/${entry}/stat`, 'utf8'), readFile(`/proc/${entry}/cmdline`, 'utf8')]);
    // The name in parentheses may hold anything, so the fields are counted from its end.
    const parentPid = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
    return [{ pid: Number(entry), parentPid, args: commandLine.split('\0').slice(0, -1) }];
  } catch {
    return [];
  }
}

/** A process that is gone, or another user's, needs no signal of ours. */
function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (!['ESRCH', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  }
}
