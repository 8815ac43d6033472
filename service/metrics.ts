import { freemem, totalmem } from 'node:os';
import { type MetricFacts, type MetricLabels, type MetricSeries, metrics } from '../contract/metrics.js';
import { addMetrics, collectMetrics, type MetricsNow, readMetrics } from '../db/metrics.js';
import type { Sql } from '../db/connect.js';
import { processorMeter } from './health.js';

/** Hands over what was counted, to somebody who adds it. */
export type FlushMetrics = (add: (deltas: readonly MetricSeries[]) => Promise<void>) => Promise<void>;

/** Scrapes within this time get the same answer, so that many scrapers cost one. */
const keptMs = 1_000;

/**
 * The metrics in Prometheus' text format. Counters come from the database, so that every API process tells the same, and are up to date: what this
 * process has counted itself is brought along.
 * @param deps.counted hands over what this process has counted since the last call
 * @param deps.streams streams of events that this process serves
 */
export function metricsUseCase(deps: { readonly sql: Sql; readonly counted: FlushMetrics; readonly streams: () => number }): () => Promise<string> {
  const { sql } = deps;
  const processorShare = processorMeter();
  let kept: { readonly text: Promise<string>; readonly untilMs: number } | null = null;
  async function scrape(): Promise<string> {
    await deps.counted((deltas) => addMetrics(sql, deltas));
    await collectMetrics(sql);
    return metricsText(await readMetrics(sql), { cpu: processorShare(), memory: 1 - freemem() / totalmem(), streams: deps.streams() });
  }
  return () => {
    if (kept !== null && performance.now() < kept.untilMs) return kept.text;
    const text = scrape();
    kept = { text, untilMs: performance.now() + keptMs };
    text.catch(() => {
      kept = null;
    });
    return text;
  };
}

/** Renders what the database and the machine say. */
export function metricsText(now: MetricsNow, machine: { readonly cpu: number; readonly memory: number; readonly streams: number }): string {
  const byName = new Map<string, MetricSeries[]>();
  for (const series of now.series) byName.set(series.name, [...(byName.get(series.name) ?? []), series]);
  const ofGpus = (field: 'utilization' | 'usedBytes' | 'totalBytes') =>
    now.gpus.flatMap(({ machine: of, index, [field]: value }) => (value === null ? [] : [[{ machine: of, gpu: String(index) }, value] as const]));
  const busy = now.gpus.flatMap(({ utilization }) => (utilization === null ? [] : [utilization]));
  const gauges: Readonly<Record<string, readonly (readonly [MetricLabels, number])[]>> = {
    active_tasks: [[{}, now.running]],
    queue_size: [[{}, now.queued]],
    line_waiting: [[{}, now.waiting]],
    tasks_in_progress: [[{}, now.running]],
    workflows_in_progress: [[{}, Math.max(0, now.queued + now.running - now.unstarted)]],
    system_cpu_utilization: [[{}, machine.cpu]],
    system_memory_utilization: [[{}, machine.memory]],
    resource_utilization: [
      [{ resource: 'cpu' }, machine.cpu],
      [{ resource: 'memory' }, machine.memory],
      ...(busy.length === 0 ? [] : [[{ resource: 'gpu' }, busy.reduce((sum, share) => sum + share, 0) / busy.length] as const]),
      [{ resource: 'general_slots' }, now.slots === 0 ? 0 : Math.min(1, now.slotsTaken / now.slots)],
    ],
    prediction_accuracy: now.judged === 0 ? [] : [[{}, now.kept / now.judged]],
    gpu_utilization: ofGpus('utilization'),
    gpu_memory_used_bytes: ofGpus('usedBytes'),
    gpu_memory_total_bytes: ofGpus('totalBytes'),
    sse_streams: [[{}, machine.streams]],
  };
  const lines = Object.entries<MetricFacts>(metrics).flatMap(([name, { type, help, buckets, labelled }]) => [
    `# HELP ${name} ${help}`,
    `# TYPE ${name} ${type}`,
    ...(type === 'gauge'
      ? (gauges[name] ?? []).map(([labels, value]) => sample(name, labels, value))
      : type === 'counter'
        ? counterLines(name, byName, labelled === true)
        : histogramLines(name, byName, buckets ?? [], labelled === true)),
  ]);
  return `${lines.join('\n')}\n`;
}

type ByName = ReadonlyMap<string, readonly MetricSeries[]>;

function counterLines(name: string, byName: ByName, labelled: boolean): string[] {
  const series = byName.get(name) ?? (labelled ? [] : [{ name, labels: {}, value: 0 }]);
  return series.map(({ labels, value }) => sample(name, labels, value));
}

function histogramLines(name: string, byName: ByName, buckets: readonly number[], labelled: boolean): string[] {
  const idOf = (labels: MetricLabels) =>
    JSON.stringify(
      Object.entries(labels)
        .filter(([label]) => label !== 'le')
        .sort(),
    );
  const counts = byName.get(`${name}_count`) ?? (labelled ? [] : [{ name, labels: {}, value: 0 }]);
  const sums = new Map((byName.get(`${name}_sum`) ?? []).map(({ labels, value }) => [idOf(labels), value]));
  const found = new Map((byName.get(`${name}_bucket`) ?? []).map(({ labels, value }) => [`${idOf(labels)}${labels['le']}`, value]));
  return counts.flatMap(({ labels, value }) => {
    const id = idOf(labels);
    return [
      ...buckets.map((bound) => sample(`${name}_bucket`, { ...labels, le: String(bound) }, found.get(`${id}${bound}`) ?? 0)),
      sample(`${name}_bucket`, { ...labels, le: '+Inf' }, value),
      sample(`${name}_sum`, labels, sums.get(id) ?? 0),
      sample(`${name}_count`, labels, value),
    ];
  });
}

function sample(name: string, labels: MetricLabels, value: number): string {
  const written = Object.entries(labels).map(([label, text]) => `${label}="${text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"')}"`);
  return `${name}${written.length === 0 ? '' : `{${written.join(',')}}`} ${value}`;
}
