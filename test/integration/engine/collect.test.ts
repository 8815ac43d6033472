import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { pino } from 'pino';
import { connect, disconnect, type Sql } from '../../../db/connect.js';
import { addMetrics } from '../../../db/metrics.js';
import { beginCollection, keepProbe, keepSample } from '../../../db/observations.js';
import { averageMetric, readAvailability, recordMetric } from '../../../db/performance.js';
import { type CollectSettings, createCollector } from '../../../engine/collect.js';
import { readGpuState, startProbe, startSampling } from '../../../mains/sample-machine.js';
import { createTestDatabase, type TestDatabase } from '../../support/servers.js';

let database: TestDatabase;
let sql: Sql;
const log = pino({ level: 'silent' });
beforeAll(async () => {
  database = await createTestDatabase();
  sql = connect(database.url, { applicationName: 'collect-test' });
});
afterAll(async () => {
  await disconnect(sql);
  await database.drop();
});
beforeEach(async () => sql`truncate system_state, performance_metrics, alerts, machine_samples, metric_series, availability_probes`);

const settings: CollectSettings = {
  intervalMs: 60_000,
  keptDays: 365,
  alerts: {
    targetLatencyMs: 100,
    highLatencyMs: 200,
    lowAccuracy: 0.75,
    highErrorRate: 0.05,
    rules: { many_waiting: { metric: 'queue_size', above: 1_000_000 } },
  },
};
const collect = async (given: Partial<CollectSettings> = {}) => createCollector({ sql, settings: { ...settings, ...given }, log })();
/** Moves everything that was collected into the past, so that the next interval has begun. */
const aMinutePasses = async () => {
  await sql`update system_state set at = at - interval '1 minute'`;
  await sql`update performance_metrics set at = at - interval '1 minute'`;
};
const values = async () =>
  Object.fromEntries(
    (
      await sql<
        { name: string; labels: Record<string, string>; value: number }[]
      >`select name, labels, value from performance_metrics where at > now() - interval '1 minute'`
    ).map(({ name, labels, value }) => [[name, ...Object.values(labels)].join(' '), value]),
  );
const attempts = (ok: number, failed: number, latencyMs: number) =>
  addMetrics(sql, [
    { name: 'step_duration_seconds_count', labels: { step_type: 'x', status: 'completed' }, value: ok + failed },
    { name: 'errors_total', labels: { code: 'x' }, value: failed },
    { name: 'tasks_completed_total', labels: { status: 'completed' }, value: ok },
    { name: 'tokens_total', labels: { kind: 'output', model: 'm' }, value: ok * 600 },
    { name: 'scheduling_latency_ms_sum', labels: {}, value: latencyMs * ok },
    { name: 'scheduling_latency_ms_count', labels: {}, value: ok },
  ]);

test('of several engines one collects each interval, into both tables [OBS-11]', async () => {
  await Promise.all([collect(), collect(), collect()]);
  expect(await sql`select at from system_state where state is not null`).toHaveLength(1);
  expect(await sql`select 1 from performance_metrics where name = 'queue_size'`).toHaveLength(1);
  await aMinutePasses();
  await attempts(30, 0, 10);
  await Promise.all([collect(), collect()]);
  expect(await values()).toMatchObject({
    queue_size: 0,
    tasks_per_minute: 30,
    tokens_per_second: 300,
    'latency_ms scheduling': 10,
    error_rate: 0,
    model_switches: 0,
  });
  const [state] = await sql<{ state: { counters: Record<string, number>; engines: number } }[]>`select state from system_state order by at desc limit 1`;
  expect(state?.state).toMatchObject({ engines: 0, counters: { tasks_completed_total: 30 } });
});

test('an alert fires once while it holds, and clears when it does not [OBS-10, PERF-14]', async () => {
  const told: string[] = [];
  const heard = pino({ level: 'info' }, { write: (line: string) => void told.push((JSON.parse(line) as { msg: string }).msg) });
  const run = createCollector({ sql, settings, log: heard });
  const holding = async () =>
    (await sql<{ rule: string; subject: string }[]>`select rule, subject from alerts where cleared_at is null order by rule`).map(
      ({ rule, subject }) => `${rule} ${subject}`,
    );
  await run();
  for (let minute = 0; minute < 3; minute++) {
    await aMinutePasses();
    await attempts(90, 10, 250);
    await run();
    expect(await holding()).toEqual(['high_error_rate ', 'high_latency_ms scheduling']);
  }
  expect(await sql`select 1 from alerts`).toHaveLength(2);
  await aMinutePasses();
  await attempts(100, 0, 20);
  await run();
  expect(await holding()).toEqual([]);
  expect(told).toEqual([
    'The mean latency of scheduling was 250 ms; 100 ms is aimed at, more than 200 ms is too much.',
    '10 % of the attempts of steps failed; more than 5 % is too much.',
    'the alert has cleared',
    'the alert has cleared',
  ]);
});

test('what is older than it is kept is removed [OBS-11]', async () => {
  await recordMetric(sql, 'queue_size', 1);
  await keepSample(sql, 'm', null, { cpu: 0, memory: 0, memoryBytes: 1, gpus: [], gpuNote: null });
  await sql`update performance_metrics set at = at - interval '8 days'`;
  await sql`update machine_samples set at = at - interval '3 days'`;
  await collect({ keptDays: 7 });
  expect(await sql`select 1 from performance_metrics where at < now() - interval '7 days'`).toHaveLength(0);
  expect(await sql`select 1 from machine_samples`).toHaveLength(0);
});

test('a metric has the mean of its values, and 0 without any [OBS-12]', async () => {
  const since = new Date(Date.now() - 60_000);
  expect(await averageMetric(sql, 'task_duration_seconds', since)).toBe(0);
  for (const value of [2, 4, 9]) await recordMetric(sql, 'task_duration_seconds', value);
  expect(await averageMetric(sql, 'task_duration_seconds', since)).toBe(5);
});

test('a minute without a probe, or with none that went well, is one without the part [OBS-15]', async () => {
  await sql`insert into availability_probes (part, minute, ok)
    select 'api', date_trunc('month', now() at time zone 'UTC') at time zone 'UTC' + n * interval '1 minute' - interval '2 hours', n % 10 <> 0 from generate_series(0, 59) n where n <> 5`;
  const [last] = (await readAvailability(sql)).filter(({ minutes, ok }) => minutes > 0 && ok > 0);
  expect(last).toMatchObject({ part: 'api', minutes: 120, ok: 53 });
  await keepProbe(sql, 'scheduling', true);
  await keepProbe(sql, 'scheduling', false);
  expect(await sql`select ok from availability_probes where part = 'scheduling'`).toEqual([{ ok: true }]);
});

test('a machine is sampled once in ten seconds, with its GPUs, whichever of its processes comes first [DASH-05, OBS-14]', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'fake-gpu-'));
  try {
    expect(await readGpuState('here', folder)).toEqual({ gpus: [], gpuNote: 'nvidia-smi was not found on here' });
    const fake = path.join(folder, 'nvidia-smi');
    await writeFile(fake, '#!/bin/sh\necho "0, NVIDIA L4, 37, 6000, 23034, 61, 55.40"\necho "1, NVIDIA GB10, [N/A], [N/A], [N/A], 40, [N/A]"\n');
    await chmod(fake, 0o755);
    const loops = [startSampling(sql, null, folder, log), startSampling(sql, 'gpu-1', folder, log), startProbe(sql, 'api', async () => true, log)];
    await expect.poll(async () => (await sql`select 1 from machine_samples where models_bytes is not null`).length, { timeout: 5_000 }).toBe(1);
    for (const loop of loops) await loop.stop();
    const rows = await sql<{ machine: string; gpu: number; gpus: object[] }[]>`select machine, gpu, gpus from machine_samples`;
    expect(rows.length).toBeLessThanOrEqual(2); // two when ten seconds ended meanwhile
    expect(rows[0]).toMatchObject({
      machine: hostname(),
      gpus: [
        { index: 0, name: 'NVIDIA L4', utilization: 0.37, celsius: 61, watts: 55.4 },
        { index: 1, utilization: null },
      ],
    });
    expect(rows[0]?.gpu).toBeCloseTo(0.37);
    await writeFile(fake, '#!/bin/sh\nexit 9\n');
    expect((await readGpuState('here', folder)).gpuNote).toBe('nvidia-smi failed on here');
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('a collection that begins has the state of the one before, unless that is long ago [OBS-11]', async () => {
  await collect();
  await sql`update system_state set at = at - interval '2 hours'`;
  expect(await beginCollection(sql, 60_000)).toMatchObject({ before: null });
});
