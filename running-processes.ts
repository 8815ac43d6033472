import { readdir, readFile, readlink } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';

/** A process as /proc tells it. */
export interface RunningProcess {
  readonly pid: number;
  readonly parentPid: number;
  /** the command line, the program first; a program may have written something else there */
  readonly args: readonly string[];
  /** null: not told, since it is another user's */
  readonly cwd: string | null;
}

const goneTimeoutMs = 10_000;
/** Processes looked at together: each takes up to three open files, of which a process may have 1,024 by default. */
const atOnce = 100;

/**
 * Ends processes at once and returns, when they are gone, how many there were. Without a Linux /proc it finds none.
 * @param which their pids among all that run
 */
export async function endProcesses(which: (processes: readonly RunningProcess[]) => number[]): Promise<number> {
  const pids = which(await runningProcesses());
  if (pids.length === 0) return 0;
  for (const pid of pids) kill(pid);
  for (const deadlineMs = performance.now() + goneTimeoutMs; performance.now() < deadlineMs; await delay(20)) {
    if (!which(await runningProcesses()).some((pid) => pids.includes(pid))) break;
  }
  return pids.length;
}

async function runningProcesses(): Promise<RunningProcess[]> {
  if (process.platform !== 'linux') return [];
  const entries = (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry));
  const found: RunningProcess[] = [];
  for (let at = 0; at < entries.length; at += atOnce) found.push(...(await Promise.all(entries.slice(at, at + atOnce).map(readProcess))).flat());
  return found;
}

/** None when it ended meanwhile; one that ended and was not waited for has no command line any more. */
async function readProcess(entry: string): Promise<RunningProcess[]> {
  try {
    const [stat, commandLine, cwd] = await Promise.all([
      readFile(`/proc/${entry}/stat`, 'utf8'),
      readFile(`/proc/${entry}/cmdline`, 'utf8'),
      readlink(`/proc/${entry}/cwd`).catch(() => null),
    ]);
    // The name in parentheses may hold anything, so the fields are counted from its end.
    const parentPid = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
    return [{ pid: Number(entry), parentPid, args: commandLine.split('\0').slice(0, -1), cwd }];
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
