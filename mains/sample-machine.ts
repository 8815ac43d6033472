import { execFile } from 'node:child_process';
import { freemem, hostname, totalmem } from 'node:os';
import { promisify } from 'node:util';
import type { Logger } from 'pino';
import type { Sql } from '../db/connect.js';
import { type GpuReading, keepProbe, keepSample, type MachineReading, sampleEveryMs } from '../db/observations.js';
import { type Loop, startLoop } from '../loop.js';
import { processorMeter } from '../service/health.js';

const run = promisify(execFile);
const mebibyte = 1024 ** 2;
const gpuTimeoutMs = 5_000;
/** Over less time than this a share of processors says nothing. */
const firstSampleMs = 2_000;
const probeEveryMs = 60_000;
const fields = 'index,name,utilization.gpu,memory.used,memory.total,temperature.gpu,power.draw';

/**
 * Samples the machine of this process every ten seconds.
 * @param host id of the host that this process is; null: it is none
 * @param searchPath where nvidia-smi is looked for
 */
export function startSampling(sql: Sql, host: string | null, searchPath: string, log: Logger): Loop {
  const processorShare = processorMeter();
  let measuring = false;
  const machine = hostname();
  return startLoop({
    name: 'machine',
    everyMs: sampleEveryMs,
    async run() {
      if (!measuring) {
        measuring = true;
        processorShare(); // else the first share were that since the machine started
        return { againInMs: firstSampleMs };
      }
      const memory = 1 - freemem() / totalmem();
      await keepSample(sql, machine, host, { cpu: processorShare(), memory, memoryBytes: totalmem(), ...(await readGpuState(machine, searchPath)) });
      return undefined;
    },
    log,
  });
}

/** Notes each minute whether a part does its work; whoever fails to note it does not. */
export function startProbe(sql: Sql, part: 'api' | 'scheduling', works: () => Promise<boolean>, log: Logger): Loop {
  return startLoop({
    name: 'probe',
    everyMs: probeEveryMs,
    async run() {
      await keepProbe(sql, part, await works());
      return undefined;
    },
    log,
  });
}

/** What nvidia-smi says of the GPUs of this machine, or why it says nothing. */
export async function readGpuState(machine: string, searchPath: string): Promise<Pick<MachineReading, 'gpus' | 'gpuNote'>> {
  try {
    const { stdout } = await run('nvidia-smi', [`--query-gpu=${fields}`, '--format=csv,noheader,nounits'], {
      timeout: gpuTimeoutMs,
      env: { PATH: searchPath },
    });
    const gpus = parseGpuState(stdout);
    return { gpus, gpuNote: gpus.length === 0 ? `nvidia-smi names none on ${machine}` : null };
  } catch (error) {
    const absent = error instanceof Error && 'code' in error && error.code === 'ENOENT';
    return { gpus: [], gpuNote: absent ? `nvidia-smi was not found on ${machine}` : `nvidia-smi failed on ${machine}` };
  }
}

/** Lines of `index, name, utilization, used, total, temperature, power`; memory in MiB, `[N/A]` where a card does not say. */
export function parseGpuState(text: string): GpuReading[] {
  return text.split('\n').flatMap((line) => {
    const parts = line.split(',').map((part) => part.trim());
    const number = (at: number) => (/^\d+(\.\d+)?$/.test(parts.at(at) ?? '') ? Number(parts.at(at)) : null);
    const index = number(0);
    if (parts.length < 7 || index === null) return [];
    const scaled = (value: number | null, by: number) => (value === null ? null : value * by);
    return [
      {
        index,
        name: parts.slice(1, -5).join(', '),
        utilization: scaled(number(-5), 0.01),
        usedBytes: scaled(number(-4), mebibyte),
        totalBytes: scaled(number(-3), mebibyte),
        celsius: number(-2),
        watts: number(-1),
      },
    ];
  });
}
