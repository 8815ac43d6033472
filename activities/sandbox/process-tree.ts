import { readdir, readFile, stat } from 'node:fs/promises';

/** One process of a run, as /proc shows it. */
export interface ProcessSeen {
  readonly pid: number;
  readonly memoryBytes: number;
  readonly cpuSeconds: number;
}

/** Linux counts CPU time in these for /proc, on every architecture Node supports. */
const ticksPerSecond = 100;
const pageBytes = 4096;

/** A process and all its descendants, the process itself first; empty when it is gone or there is no /proc. */
export async function processTree(rootPid: number): Promise<ProcessSeen[]> {
  const seen: ProcessSeen[] = [];
  const pending = [rootPid];
  for (let pid = pending.pop(); pid !== undefined; pid = pending.pop()) {
    const one = await statOf(pid);
    if (!one) continue;
    seen.push(one);
    const threads = await readdir(`/proc/${pid}/task`).catch(() => []);
    for (const thread of threads) {
      const children = await readFile(`/proc/${pid}/task/${thread}/children`, 'utf8').catch(() => '');
      pending.push(...children.split(' ').filter(Boolean).map(Number));
    }
  }
  return seen;
}

/** Processes whose environment holds this text, or that are in one of these sessions or groups: what `setsid` took out of the tree. */
export async function processesMarked(marker: string, groups: ReadonlySet<number>): Promise<number[]> {
  const pids = (await readdir('/proc').catch(() => [])).filter((name) => /^\d+$/.test(name)).map(Number);
  const found: number[] = [];
  for (const pid of pids) {
    const fields = await statFields(pid);
    if (!fields || fields[0] === 'Z') continue;
    const environment = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '');
    if (groups.has(Number(fields[2])) || groups.has(Number(fields[3])) || environment.includes(marker)) found.push(pid);
  }
  return found;
}

/** How many processes and threads a user has; the kernel counts both against RLIMIT_NPROC. */
export async function tasksOfUser(uid: number): Promise<number> {
  let tasks = 0;
  for (const pid of (await readdir('/proc').catch(() => [])).filter((name) => /^\d+$/.test(name))) {
    const owner = await stat(`/proc/${pid}`).catch(() => undefined);
    if (owner?.uid === uid) tasks += Number((await statFields(Number(pid)))?.[17] ?? 0);
  }
  return tasks;
}

/** Sends a signal; a process that is gone already is no error. */
export function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (!['ESRCH', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  }
}

async function statOf(pid: number): Promise<ProcessSeen | undefined> {
  const fields = await statFields(pid);
  if (!fields) return undefined;
  const ticks = [11, 12, 13, 14].reduce((sum, at) => sum + Number(fields[at]), 0);
  return { pid, memoryBytes: Number(fields[21]) * pageBytes, cpuSeconds: ticks / ticksPerSecond };
}

/** The fields of /proc/<pid>/stat after the program's name, which may itself hold blanks and brackets: state first. */
async function statFields(pid: number): Promise<string[] | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  const end = text.lastIndexOf(')');
  return end === -1
    ? undefined
    : text
        .slice(end + 2)
        .trim()
        .split(' ');
}
