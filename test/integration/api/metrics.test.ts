import { afterAll, beforeAll, expect, test } from 'vitest';
import { createApp } from '../../../api/app.js';
import { metricsApp } from '../../../api/metrics.js';
import { listen } from '../../../api/server.js';
import { collectMetrics, readMetrics } from '../../../db/metrics.js';
import { createMetricBuffer } from '../../../metrics.js';
import { createServices } from '../../../service/services.js';
import { parsePrometheus, sampleOf } from '../../support/prometheus.js';
import { type ApiUnderTest, apiConfig, apiUnderTest, silent } from './api-under-test.js';

let api: ApiUnderTest;
beforeAll(async () => {
  api = await apiUnderTest();
});
afterAll(async () => api.stop());

test('every API process tells the same counts, whoever answered the requests [OBS-01]', async () => {
  const buffer = createMetricBuffer();
  const other = createServices({ ...api.deps, flushMetrics: buffer.flush });
  const app = createApp({ services: other, log: silent, meter: buffer, config: apiConfig });
  for (let count = 0; count < 3; count++) await api.request(api.keys.ann, 'GET', '/api/v1/tasks');
  await app.request('/api/v1/tasks', { headers: { 'X-API-Key': api.keys.ann } });
  const count = async (text: string) => sampleOf(parsePrometheus(text), 'http_requests_total', { route: '/api/v1/tasks', method: 'GET', status: '200' });
  expect(await count(await api.services.metrics())).toBe(3); // the other has not brought its own yet
  expect(await count(await other.metrics())).toBe(4);
  const third = createServices(api.deps);
  expect(await count(await third.metrics())).toBe(4);
});

test('events are counted once, however many processes count at the same time [OBS-04]', async () => {
  const { sql } = api.database;
  const before = await readMetrics(sql);
  const tasks = await Promise.all([1, 2, 3, 4].map(() => api.task(api.keys.ann)));
  for (const { id } of tasks) await api.request(api.keys.ann, 'DELETE', `/api/v1/tasks/${id}`);
  for (let round = 0; round < 3; round++) await Promise.all([1, 2, 3, 4].map(() => collectMetrics(sql)));
  await collectMetrics(sql);
  const cancelled = ({ series }: typeof before) =>
    series.find(({ name, labels }) => name === 'tasks_completed_total' && labels['status'] === 'cancelled')?.value ?? 0;
  expect(cancelled(await readMetrics(sql)) - cancelled(before)).toBe(4);
});

test('/metrics of the API is open, or asks for a key when the configuration says so [OBS-01, SEC-01]', async () => {
  expect((await api.request(null, 'GET', '/metrics')).status).toBe(200);
  const closed = createApp({ services: api.services, log: silent, config: { ...apiConfig, publicMetrics: false } });
  expect((await closed.request('/metrics')).status).toBe(401);
  expect((await closed.request('/metrics', { headers: { 'X-API-Key': api.keys.viewer } })).status).toBe(200);
});

/** What Chromium sends from a page that reads from its own name, over plain HTTP. */
const ofPage = { 'User-Agent': 'Mozilla/5.0 (X11; Linux x86_64)', 'Accept-Language': 'en' };
const ofPrometheus = { 'User-Agent': 'Prometheus/3.5.0', Accept: 'application/openmetrics-text;q=0.5,*/*;q=0.1' };

test('a page whose name was pointed at this server reads no metrics, and Prometheus does under any name [SEC-16]', async () => {
  const app = createApp({ services: api.services, log: silent, config: { ...apiConfig, allowedHosts: ['metrics.example'] } });
  const own = metricsApp(async () => 'counted 1\n', ['metrics.example']);
  for (const ask of [
    async (headers: Record<string, string>) => app.request('/metrics', { headers }),
    async (headers: Record<string, string>) => own.fetch(new Request('http://localhost:8000/metrics', { headers })),
  ]) {
    const status = async (headers: Record<string, string>) => (await ask(headers)).status;
    expect(await status({ Host: 'rebound.example:8000', ...ofPrometheus })).toBe(200);
    for (const browser of [ofPage, { 'Sec-Fetch-Site': 'same-origin' }, { Origin: 'http://rebound.example:8000' }]) {
      expect({ browser, status: await status({ Host: 'rebound.example:8000', ...browser }) }).toEqual({ browser, status: 403 });
      for (const host of ['localhost:8000', '127.0.0.1', '[::1]:8000', 'metrics.example'])
        expect({ host, status: await status({ Host: host, ...browser }) }).toEqual({ host, status: 200 });
    }
  }
});

test('the port of the metrics has /metrics and nothing else, and says when the database is away [OBS-01]', async () => {
  let away = false;
  const server = await listen(
    metricsApp(async () => (away ? Promise.reject(new Error('secret detail')) : api.services.metrics()), ['metrics.example']),
    {
      hostname: '127.0.0.1',
      port: 0,
      log: silent,
    },
  );
  const ask = (path: string, method = 'GET') => fetch(`http://127.0.0.1:${server.port}${path}`, { method });
  try {
    const answer = await ask('/metrics');
    expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'text/plain; version=0.0.4; charset=utf-8']);
    parsePrometheus(await answer.text());
    expect((await ask('/api/v1/tasks')).status).toBe(404);
    expect((await ask('/metrics', 'POST')).status).toBe(405);
    away = true;
    const failed = await ask('/metrics');
    expect([failed.status, await failed.text()]).toEqual([503, 'The database does not answer.\n']);
  } finally {
    await server.close(0);
  }
});
