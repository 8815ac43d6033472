import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { freePort } from '../temporal/server/server-version.js';
import { isLive, type ProcessFile, processStartTime } from './process-file.js';

type Owner = Pick<ProcessFile, 'pid' | 'startTime'>;

/**
 * A free loopback port that no other installation of this user takes between our look and our server's start:
 * two that start at once would otherwise both find the default free. The claim is void when its process is gone.
 * @param wanted 0: any
 */
export async function reservePort(cacheDir: string, wanted: number): Promise<number> {
  const directory = join(cacheDir, 'ports');
  await mkdir(directory, { recursive: true });
  const owner: Owner = { pid: process.pid, startTime: (await processStartTime(process.pid)) ?? '' };
  for (let ask = wanted; ; ask = 0) {
    const port = await freePort(ask);
    if (await claim(join(directory, String(port)), owner)) return port;
  }
}

/** Gives back every port that this process has reserved; those that a killed one left are void by themselves. */
export async function releasePorts(cacheDir: string, ports: Iterable<number>): Promise<void> {
  for (const port of ports) await rm(join(cacheDir, 'ports', String(port)), { force: true });
}

async function claim(path: string, owner: Owner): Promise<boolean> {
  try {
    await writeFile(path, JSON.stringify(owner), { flag: 'wx' });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  try {
    const other = JSON.parse(await readFile(path, 'utf8')) as Owner;
    if (await isLive(other)) return false;
  } catch {
    return false; // being written, or removed just now: another port does
  }
  await rm(path, { force: true });
  return claim(path, owner);
}
