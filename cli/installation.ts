import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** The port of the installation that runs in a home folder, as `orchestra up` wrote it; null when none runs. */
export async function runningPort(home: string): Promise<number | null> {
  try {
    const { pid, startTime, port } = JSON.parse(await readFile(join(home, 'run', 'api.json'), 'utf8')) as Record<string, unknown>;
    return typeof pid === 'number' && typeof port === 'number' && (await lives(pid, startTime)) ? port : null;
  } catch {
    return null;
  }
}

/** Whether the process is the one that wrote the file: a key must not be sent to whoever has the port now. */
async function lives(pid: number, startTime: unknown): Promise<boolean> {
  if (process.platform === 'linux') {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    // The name in parentheses may hold anything, so the fields are counted from its end.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] === startTime;
  }
  process.kill(pid, 0);
  return true;
}

/** Whether an address is of this machine; the key in the home folder goes nowhere else. */
export function isLocal(address: string): boolean {
  try {
    return /^(localhost|127(\.\d+){3}|\[::1\])$/.test(new URL(address).hostname);
  } catch {
    return false;
  }
}
