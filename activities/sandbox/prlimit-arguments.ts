import { availableParallelism } from 'node:os';

export interface ProcessLimits {
  readonly timeoutMs: number;
  /** of one file */
  readonly diskBytes: number;
  /** 0: unlimited */
  readonly memoryBytes: number;
}

/** Processes and threads of one run: enough for a compiler, far too few for a fork bomb to hurt. */
const processesMax = 512;
const filesOpenMax = 1024;
/** Runtimes reserve far more address space than they use, Node 10 GiB for a WebAssembly memory; what is used is measured while the run goes on. */
const reservedBytes = 12 * 1024 ** 3;

/**
 * Arguments of `prlimit` before the program, so that the limits bind it and all it starts.
 * @param tasksBefore processes and threads that the run's user has already, since the kernel counts them together
 */
export function prlimitArguments(limits: ProcessLimits, tasksBefore = 0, cpus = availableParallelism()): string[] {
  const cpuSeconds = Math.ceil(limits.timeoutMs / 1000) * cpus + 1;
  return [
    `--cpu=${cpuSeconds}`,
    `--fsize=${limits.diskBytes}`,
    `--nofile=${filesOpenMax}`,
    `--nproc=${tasksBefore + processesMax}`,
    ...(limits.memoryBytes > 0 ? [`--as=${limits.memoryBytes + reservedBytes}`] : []),
    '--core=0',
  ];
}
