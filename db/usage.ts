import { answered, type Sql } from './connect.js';
import type { GpuReading } from './observations.js';

/** How one machine was in one stretch of time; shares are 0 to 1. */
export interface MachinePoint {
  readonly machine: string;
  readonly at: Date;
  readonly cpu: number;
  readonly memory: number;
  readonly modelsBytes: number | null;
  readonly gpu: number | null;
  readonly gpuMemory: number | null;
}

/** The latest sample of a machine. */
export interface MachineNow extends MachinePoint {
  readonly memoryBytes: number;
  readonly gpus: readonly GpuReading[];
  readonly gpuNote: string | null;
}

/** One collected value: the mean of a stretch of time. */
export interface MetricPoint {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly at: Date;
  readonly value: number;
}

/** Means of stretches of some seconds, of each machine, the earliest first. Reads. */
export async function readMachinePoints(sql: Sql, since: Date, stepSeconds: number): Promise<MachinePoint[]> {
  return answered(sql<MachinePoint[]>`
    select machine, date_bin(${stepSeconds} * interval '1 second', at, 'epoch') as at, avg(cpu)::float8 as cpu, avg(memory)::float8 as memory,
      avg(models_bytes)::float8 as "modelsBytes", avg(gpu)::float8 as gpu, avg(gpu_memory)::float8 as "gpuMemory"
    from machine_samples where at >= ${since} group by machine, 2 order by machine, 2`);
}

/** The latest sample of each machine since a moment. Reads. */
export async function readMachinesNow(sql: Sql, since: Date): Promise<MachineNow[]> {
  return answered(sql<MachineNow[]>`
    select distinct on (machine) machine, at, cpu::float8, memory::float8, memory_bytes::float8 as "memoryBytes", models_bytes::float8 as "modelsBytes", gpu::float8,
      gpu_memory::float8 as "gpuMemory", gpus, gpu_note as "gpuNote"
    from machine_samples where at >= ${since} order by machine, at desc`);
}

/** Means of collected values in stretches of some seconds, the earliest first. Reads. */
export async function readMetricPoints(sql: Sql, names: readonly string[], since: Date, stepSeconds: number): Promise<MetricPoint[]> {
  return answered(sql<MetricPoint[]>`
    select name, labels, date_bin(${stepSeconds} * interval '1 second', at, 'epoch') as at, avg(value)::float8 as value
    from performance_metrics where name = any(${names as string[]}) and at >= ${since} group by name, labels, 3 order by name, labels, 3`);
}
