import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { metrics, type MetricSeries } from '../../../contract/metrics.js';
import { createMetricBuffer } from '../../../metrics.js';
import { metricsText } from '../../../service/metrics.js';
import { parsePrometheus, sampleOf } from '../../support/prometheus.js';

const machine = { cpu: 0.25, memory: 0.5, streams: 3 };
const now = (series: readonly MetricSeries[] = []) => ({
  queued: 4,
  running: 2,
  unstarted: 1,
  waiting: 3,
  slots: 10,
  slotsTaken: 5,
  gpus: [],
  judged: 0,
  kept: 0,
  series,
});
async function counted(act: (buffer: ReturnType<typeof createMetricBuffer>) => void): Promise<MetricSeries[]> {
  const buffer = createMetricBuffer();
  act(buffer);
  const taken: MetricSeries[] = [];
  await buffer.flush(async (deltas) => void taken.push(...deltas));
  return taken;
}

test('the names are those of the requirements, and an installation that has done nothing shows them [OBS-01, OBS-02, OBS-04]', () => {
  const families = parsePrometheus(metricsText(now(), machine));
  for (const [name, type] of [
    ['scheduling_latency_ms', 'histogram'],
    ['tasks_scheduled_total', 'counter'],
    ['scheduling_errors_total', 'counter'],
    ['active_tasks', 'gauge'],
    ['queue_size', 'gauge'],
    ['system_cpu_utilization', 'gauge'],
    ['system_memory_utilization', 'gauge'],
    ['tasks_in_progress', 'gauge'],
    ['workflows_in_progress', 'gauge'],
    ['tasks_completed_total', 'counter'],
    ['errors_total', 'counter'],
    ['task_duration_seconds', 'histogram'],
    ['resource_utilization', 'gauge'],
  ] as const)
    expect(families.get(name)?.type).toBe(type);
  expect([...families.keys()]).toEqual(Object.keys(metrics));
  expect(sampleOf(families, 'queue_size')).toBe(4);
  expect(sampleOf(families, 'active_tasks')).toBe(2);
  expect(sampleOf(families, 'workflows_in_progress')).toBe(5);
  expect(sampleOf(families, 'resource_utilization', { resource: 'general_slots' })).toBe(0.5);
  expect(sampleOf(families, 'sse_streams')).toBe(3);
  expect(sampleOf(families, 'scheduling_latency_ms_count')).toBe(0);
});

test('of predictions and optimizations there are accuracy, latency and utilization; what is not built is left out [OBS-03]', async () => {
  const series = await counted((buffer) => {
    for (const ms of [3, 40]) buffer.observe('prediction_latency_ms', ms);
  });
  const families = parsePrometheus(metricsText({ ...now(series), judged: 50, kept: 40 }, machine));
  expect(families.get('prediction_accuracy')?.type).toBe('gauge');
  expect(sampleOf(families, 'prediction_accuracy')).toBe(0.8);
  expect(families.get('prediction_latency_ms')?.type).toBe('histogram');
  expect([sampleOf(families, 'prediction_latency_ms_count'), sampleOf(families, 'prediction_latency_ms_sum')]).toEqual([2, 43]);
  expect(sampleOf(families, 'resource_utilization', { resource: 'cpu' })).toBe(0.25);
  for (const later of ['optimization_analysis_duration_ms', 'optimizations_applied_total', 'optimization_improvement_ratio'])
    expect(families.has(later)).toBe(false);
});

test('what was observed stands in every bucket that it fits, with sum and count [OBS-02]', async () => {
  const series = await counted((buffer) => {
    for (const ms of [0.5, 5, 7, 9_999]) buffer.observe('scheduling_latency_ms', ms);
  });
  const families = parsePrometheus(metricsText(now(series), machine));
  const bucket = (le: string) => sampleOf(families, 'scheduling_latency_ms_bucket', { le });
  expect([bucket('1'), bucket('2'), bucket('5'), bucket('10'), bucket('5000'), bucket('+Inf')]).toEqual([1, 1, 2, 3, 3, 4]);
  expect(sampleOf(families, 'scheduling_latency_ms_sum')).toBeCloseTo(10_011.5);
});

test('labels of any text are written so that a scraper reads them back [OBS-01]', async () => {
  const evil = 'a"b\\c\nd} 1\nforged_total 7';
  const series = await counted((buffer) => buffer.count('tokens_total', { kind: 'prompt', model: evil }, 3));
  const families = parsePrometheus(metricsText(now(series), machine));
  expect(families.get('tokens_total')?.samples).toHaveLength(1);
  expect(families.has('forged_total')).toBe(false);
});

test('what could not be handed over is handed over with the next', async () => {
  const buffer = createMetricBuffer();
  buffer.count('scheduling_errors_total');
  await expect(buffer.flush(() => Promise.reject(new Error('away')))).rejects.toThrow('away');
  buffer.count('scheduling_errors_total', {}, 2);
  const taken: MetricSeries[] = [];
  await buffer.flush(async (deltas) => void taken.push(...deltas));
  expect(taken).toEqual([{ name: 'scheduling_errors_total', labels: {}, value: 3 }]);
});

test.each([
  ['a sample without its type', '# HELP a b\na 1\n'],
  ['a sample twice', '# HELP a b\n# TYPE a gauge\na 1\na 2\n'],
  ['a counter without its ending', '# HELP a b\n# TYPE a counter\na 1\n'],
  ['buckets that fall', '# HELP a b\n# TYPE a histogram\na_bucket{le="1"} 2\na_bucket{le="+Inf"} 1\na_sum 1\na_count 1\n'],
  ['a label that is not closed', '# HELP a b\n# TYPE a gauge\na{b="c} 1\n'],
])('the checker finds %s', (_fault, text) => {
  expect(() => parsePrometheus(text)).toThrow();
});

test('every metric is described in docs/metrics.md', async () => {
  const page = await readFile('docs/metrics.md', 'utf8');
  expect(Object.keys(metrics).filter((name) => !page.includes(`\`${name}\``))).toEqual([]);
});
