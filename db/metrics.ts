import { type MetricFacts, type MetricSeries, metrics } from '../contract/metrics.js';
import { answered, type Sql } from './connect.js';
import type { GpuReading } from './observations.js';
import { storedJson } from './stored-json.js';

/** What is now, and every stored series. */
export interface MetricsNow {
  /** tasks */
  readonly queued: number;
  /** tasks */
  readonly running: number;
  /** tasks whose workflow is not started yet */
  readonly unstarted: number;
  /** steps in the line */
  readonly waiting: number;
  /** of all engines, for steps without a model */
  readonly slots: number;
  readonly slotsTaken: number;
  /** of the latest samples of machines */
  readonly gpus: readonly (GpuReading & { readonly machine: string })[];
  /** predictions that were judged, and those that held */
  readonly judged: number;
  readonly kept: number;
  readonly series: readonly MetricSeries[];
}

const buckets = Object.fromEntries(
  Object.entries<MetricFacts>(metrics).flatMap(([name, facts]) => (facts.buckets === undefined ? [] : [[name, facts.buckets.map(String)]])),
);

/** Adds what a process has counted. Not to be repeated: a repeat counts twice. */
export async function addMetrics(sql: Sql, deltas: readonly MetricSeries[]): Promise<void> {
  if (deltas.length > 0) await answered(sql`select metrics_add(${storedJson(sql, deltas)})`);
}

/** Counts the events since the last call of anybody, a few thousand at a time. May be repeated. */
export async function collectMetrics(sql: Sql): Promise<void> {
  for (let round = 0; round < 20; round++) {
    const [row] = await answered(sql<{ more: boolean }[]>`select metrics_collect(${storedJson(sql, buckets)}) as more`);
    if (row?.more !== true) return;
  }
}

/** Reads. */
export async function readMetrics(sql: Sql): Promise<MetricsNow> {
  const [row] = await answered(sql<{ now: MetricsNow }[]>`select metrics_now() as now`);
  if (row === undefined) throw new Error('PostgreSQL returned no row');
  return row.now;
}
