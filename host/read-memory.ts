import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { freemem, totalmem } from 'node:os';
import { promisify } from 'node:util';
import type { LoadedModel } from '../activities/backends/backend.js';
import type { HostRoom } from '../db/leases.js';
import { type MemoryReading, roomOf, type RoomSettings } from './room-of.js';

const run = promisify(execFile);
const mebibyte = 1024 ** 2;
/** nvidia-smi takes up to a second on machines with many GPUs. */
const gpuEveryMs = 15_000;
const gpuTimeoutMs = 5_000;

/**
 * Tells what a host may hold, anew with each call.
 * @param address of the model server; of another machine's memory nothing is known here
 * @param searchPath where nvidia-smi is looked for
 */
export function watchRoom(
  settings: RoomSettings,
  address: string,
  searchPath: string,
): (loaded: readonly LoadedModel[], ours: ReadonlySet<string>) => Promise<HostRoom> {
  const here = /^https?:\/\/(127(\.\d{1,3}){3}|localhost|\[::1\]|0\.0\.0\.0)(:\d+)?\/?$/.test(address);
  let gpu: { readonly reading: MemoryReading['gpu']; readonly atMs: number } = { reading: null, atMs: -Infinity };
  let noGpu = false;
  return async (loaded, ours) => {
    if (!here) return roomOf(settings, null, loaded, ours);
    if (!noGpu && performance.now() - gpu.atMs >= gpuEveryMs) {
      const reading = await readGpus(searchPath);
      noGpu = reading === 'absent';
      gpu = { reading: reading === 'absent' ? null : (reading ?? gpu.reading), atMs: performance.now() };
    }
    return roomOf(settings, { main: await readMain(), gpu: gpu.reading }, loaded, ours);
  };
}

/** @returns null when it could not be read this time */
async function readGpus(searchPath: string): Promise<MemoryReading['gpu'] | 'absent'> {
  try {
    const { stdout } = await run('nvidia-smi', ['--query-gpu=memory.total,memory.used', '--format=csv,noheader,nounits'], {
      timeout: gpuTimeoutMs,
      env: { PATH: searchPath },
    });
    return parseGpus(stdout);
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'ENOENT' ? 'absent' : null;
  }
}

/** Lines of `total, used` in MiB, one for each GPU. @returns null where no line has both, as for GPUs that share the main memory */
export function parseGpus(text: string): MemoryReading['gpu'] {
  const gpus = [...text.matchAll(/^\s*(\d+)\s*,\s*(\d+)\s*$/gm)].map(([, total, used]) => ({
    totalBytes: Number(total) * mebibyte,
    usedBytes: Number(used) * mebibyte,
  }));
  if (gpus.length === 0) return null;
  return {
    totalBytes: gpus.reduce((sum, { totalBytes }) => sum + totalBytes, 0),
    usedBytes: gpus.reduce((sum, { usedBytes }) => sum + usedBytes, 0),
  };
}

/** What a container may use of it counts, where there is such a limit. Elsewhere than on Linux nobody says what is available, so nothing counts as used. */
async function readMain(): Promise<MemoryReading['main']> {
  const limit = process.constrainedMemory();
  const machine = totalmem();
  const totalBytes = limit > 0 && limit < machine ? limit : machine;
  if (process.platform !== 'linux') return { totalBytes, usedBytes: 0 };
  if (totalBytes < machine) {
    const used = Number(await readFile('/sys/fs/cgroup/memory.current', 'utf8').catch(() => '0'));
    const cached = Number(/^file (\d+)$/m.exec(await readFile('/sys/fs/cgroup/memory.stat', 'utf8').catch(() => ''))?.[1] ?? 0);
    return { totalBytes, usedBytes: Math.max(0, Math.min(used - cached, totalBytes)) };
  }
  return { totalBytes, usedBytes: machine - freemem() };
}
