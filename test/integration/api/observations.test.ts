import { afterAll, beforeAll, expect, test } from 'vitest';
import type { PerformanceReportView, ResourceUsageHistoryView, SystemReportView } from '../../../contract/schemas/observations.js';
import { settleAlerts } from '../../../db/alerts.js';
import { keepProbe, keepSample } from '../../../db/observations.js';
import { parsePrometheus, sampleOf } from '../../support/prometheus.js';
import { type ApiUnderTest, apiUnderTest } from './api-under-test.js';

let api: ApiUnderTest;
beforeAll(async () => {
  api = await apiUnderTest();
  const gpu = { index: 0, name: 'NVIDIA L4', utilization: 0.75, usedBytes: 6_000, totalBytes: 24_000, celsius: 61, watts: null };
  await keepSample(api.database.sql, 'm1', null, { cpu: 0.25, memory: 0.5, memoryBytes: 1_000, gpus: [gpu], gpuNote: null });
});
afterAll(async () => api.stop());
const ask = async <T>(path: string): Promise<T> => (await (await api.request(api.keys.viewer, 'GET', path)).json()) as T;

test('machines and what they did are told over time [DASH-05, DASH-06]', async () => {
  const { database } = api;
  await database.sql`insert into performance_metrics (name, value, at) values ('tasks_per_minute', 4, now())`;
  const usage = await ask<ResourceUsageHistoryView>('/api/v1/resources/usage?minutes=60');
  expect(usage.machines).toMatchObject([{ machine: 'm1', gpus: [{ utilization: 0.75, watts: null }], points: [{ cpu: 0.25, gpu: 0.75, gpu_memory: 0.25 }] }]);
  expect(usage.flow).toMatchObject([{ tasks_per_minute: 4, tokens_per_second: null }]);
  expect((await api.request(api.keys.ann, 'GET', '/api/v1/resources/usage?minutes=0')).status).toBe(422);
});

test('GPUs are metrics [OBS-14]', async () => {
  const families = parsePrometheus(await api.services.metrics());
  expect(sampleOf(families, 'gpu_utilization', { machine: 'm1', gpu: '0' })).toBe(0.75);
  expect(sampleOf(families, 'gpu_memory_used_bytes', { machine: 'm1', gpu: '0' })).toBe(6_000);
  expect(sampleOf(families, 'resource_utilization', { resource: 'gpu' })).toBe(0.75);
  expect(sampleOf(families, 'model_unloads_total')).toBe(0);
});

test('models that leave, and predictions that hold, are counted [OBS-03, OBS-14]', async () => {
  const { sql } = api.database;
  await sql`insert into residency_orders (host, host_epoch, unload, load_key, load_model, load_num_ctx, state, reason, ended_at) values ('h', 1, '{a,b}', 'c', 'c', 4096, 'done', 'x', now())`;
  await sql`insert into forecast_stretch (kind, horizon, low, high, judged, kept) values ('start', 0, 1, 1, 40, 30), ('finish', 0, 1, 1, 10, 10)`;
  await new Promise((resolve) => setTimeout(resolve, 1_100)); // scrapes within a second get the same answer
  const families = parsePrometheus(await api.services.metrics());
  expect(sampleOf(families, 'model_unloads_total')).toBe(2);
  expect(sampleOf(families, 'prediction_accuracy')).toBeCloseTo(0.8);
});

test('alerts are listed, those that hold first [OBS-10]', async () => {
  const finding = { rule: 'long_queue', subject: '', message: 'queue_size is 600, above 500.', value: 600, threshold: 500 };
  const { sql } = api.database;
  expect(await settleAlerts(sql, [finding])).toMatchObject({ fired: [finding], cleared: [] });
  expect(await settleAlerts(sql, [finding, { ...finding, rule: 'other' }])).toMatchObject({ fired: [{ rule: 'other' }], cleared: [] });
  expect(await settleAlerts(sql, [finding])).toMatchObject({ fired: [], cleared: [{ rule: 'other' }] });
  const { items } = await ask<{ items: { rule: string; cleared_at: string | null }[] }>('/api/v1/alerts');
  expect(items.map(({ rule, cleared_at: cleared }) => [rule, cleared === null])).toEqual([
    ['long_queue', true],
    ['other', false],
  ]);
});

test('the parts, their versions and what keeps work waiting are told in one answer [OBS-05, DASH-12]', async () => {
  const system = await ask<SystemReportView>('/api/v1/system');
  expect(system.checks.map(({ name }) => name)).toEqual(['database_connection', 'temporal_connection', 'engine', 'ollama', 'system_resources']);
  expect(system.versions.map(({ part }) => part)).toEqual(['AI Task Orchestra', 'Temporal', 'PostgreSQL']);
  expect(system.troubles).toEqual(['queue_size is 600, above 500.']);
});

test('the report has times of tasks, use of resources and availability, and zeros where nothing was [OBS-12, OBS-15]', async () => {
  const { sql } = api.database;
  expect(await ask<PerformanceReportView>('/api/v1/reports/performance?hours=1')).toMatchObject({
    avg_task_execution_time: 0,
    avg_workflow_completion_time: 0,
    availability: [],
  });
  const { id } = await api.task(api.keys.bob);
  await sql`update tasks set status = 'completed', created_at = now() - interval '30 seconds', started_at = now() - interval '10 seconds', completed_at = now() where id = ${id}`;
  await sql`insert into performance_metrics (name, labels, value, at) values ('resource_utilization', '{"resource":"cpu"}', 0.2, now()), ('resource_utilization', '{"resource":"cpu"}', 0.4, now())`;
  await keepProbe(sql, 'api', true);
  await sql`update availability_probes set minute = minute - interval '1 minute'`;
  const report = await ask<PerformanceReportView>('/api/v1/reports/performance');
  expect(report).toMatchObject({ avg_task_execution_time: 10, avg_workflow_completion_time: 30, tasks_completed: 1 });
  expect(report.resource_utilization['cpu']).toBeCloseTo(0.3);
  expect(report.availability.at(0)).toMatchObject({ part: 'api', share: 1 });
  expect((await api.request(api.keys.ann, 'GET', '/api/v1/reports/performance?hours=x')).status).toBe(422);
});
