import { execFile } from 'node:child_process';
import { statfs } from 'node:fs/promises';
import { availableParallelism, freemem, loadavg, totalmem } from 'node:os';
import { promisify } from 'node:util';
import { configurePools, type Share, tellShares } from '../db/holds.js';
import type { Sql } from '../db/connect.js';

/** What an engine tells of the machine that it runs on. */
export interface MachineResources {
  /** name of the machine; engines on one machine tell of it alike */
  readonly machine: string;
  /** a folder on the disk whose space counts */
  readonly diskPath: string;
  /** amounts of the configuration, by pool */
  readonly pools: Readonly<Record<string, number>>;
}

const gib = 1024 ** 3;
const gpuTimeoutMs = 5_000;

/** One run of the loop that tells what the machine has and what is in use; the first run tells the configured pools too. */
export function createResourceTeller({ sql, resources }: { readonly sql: Sql; readonly resources: MachineResources }): () => Promise<undefined> {
  let cards: number | undefined;
  let configured = false;
  return async () => {
    cards ??= await countCards();
    if (!configured) {
      await configurePools(sql, resources.pools);
      configured = true;
    }
    await tellShares(sql, resources.machine, await sharesOf(resources.diskPath, cards));
    return undefined;
  };
}

async function sharesOf(diskPath: string, cards: number): Promise<Share[]> {
  const cores = availableParallelism();
  // In a container the limit of its group counts; without one it is 0 or beyond what the machine has.
  const limit = process.constrainedMemory();
  const memory = limit > 0 ? Math.min(limit, totalmem()) : totalmem();
  const { blocks, bavail, bsize } = await statfs(diskPath);
  return [
    { pool: 'cpu', total: cores, used: rounded(loadavg()[0] ?? 0) },
    { pool: 'memory', total: rounded(memory / gib), used: rounded(Math.max(0, memory - Math.min(memory, freemem())) / gib) },
    { pool: 'disk', total: rounded((blocks * bsize) / gib), used: rounded(((blocks - bavail) * bsize) / gib) },
    { pool: 'gpu', total: cards, used: null },
  ];
}

/** Cards that the driver of NVIDIA names; others are not counted, and can be configured. */
async function countCards(): Promise<number> {
  try {
    const { stdout } = await promisify(execFile)('nvidia-smi', ['--list-gpus'], { timeout: gpuTimeoutMs });
    return stdout.split('\n').filter((line) => line.startsWith('GPU ')).length;
  } catch {
    return 0;
  }
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}
