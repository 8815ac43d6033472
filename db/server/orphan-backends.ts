import { realpath } from 'node:fs/promises';
import { endProcesses, type RunningProcess } from '../../running-processes.js';

/**
 * Which processes of PostgreSQL work in this data directory for no postmaster. They end by themselves within moments, but for one that waits for a lock in shared
 * memory whose holder was killed with the postmaster: it stays for ever, and no server starts beside it ("pre-existing shared memory block is still in use").
 * One whose parent is not told is left alone: that may be the postmaster.
 * @param dataDir absolute, without symbolic links: where they work
 */
export function orphanBackends(processes: readonly RunningProcess[], dataDir: string): number[] {
  const backends = processes.filter(({ args, cwd }) => cwd === dataDir && args[0]?.startsWith('postgres: '));
  const postmasters = new Set(processes.filter(({ args, cwd }) => cwd === dataDir && !args[0]?.startsWith('postgres: ')).map(({ pid }) => pid));
  const told = new Set(processes.map(({ pid }) => pid));
  return backends.filter(({ parentPid }) => told.has(parentPid) && !postmasters.has(parentPid)).map(({ pid }) => pid);
}

/** Ends the orphans of this data directory at once and returns, when they are gone, how many there were. Without a Linux /proc it finds none. */
export async function endOrphanBackends(dataDir: string): Promise<number> {
  const works = await realpath(dataDir);
  return endProcesses((processes) => orphanBackends(processes, works));
}
