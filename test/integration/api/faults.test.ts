import { randomUUID } from 'node:crypto';
import { Client, Connection } from '@temporalio/client';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createApp } from '../../../api/app.js';
import { listen } from '../../../api/server.js';
import type { HealthView } from '../../../contract/schemas/health.js';
import type { TaskView } from '../../../contract/schemas/task.js';
import { connect, disconnect, type Sql } from '../../../db/connect.js';
import { createLogger } from '../../../logging.js';
import { createServices, type Services } from '../../../service/services.js';
import { startAnswerLossProxy } from '../../support/answer-loss-proxy.js';
import { startFaultProxy } from '../../support/fault-proxy.js';
import { eventually } from '../../support/servers.js';
import { type ApiUnderTest, apiConfig, apiUnderTest, silent } from './api-under-test.js';

let api: ApiUnderTest;
beforeAll(async () => {
  api = await apiUnderTest();
});
afterAll(async () => api.stop());

const valid = { template: 'ollama-inference', parameters: { model: 'llama3.2', prompt: 'hello' } };
const post = (app: { request(url: string, init: RequestInit): Response | Promise<Response> }, headers: Record<string, string> = {}) =>
  app.request('/api/v1/tasks', {
    method: 'POST',
    headers: { 'X-API-Key': api.keys.ann, 'Content-Type': 'application/json', ...headers },
    body: JSON.stringify(valid),
  });
const tasksStored = async () => Number((await api.database.sql`select count(*) from tasks`)[0]?.['count']);
const serve = (services: Services, requestTimeoutMs = apiConfig.requestTimeoutMs) =>
  createApp({ services, log: silent, config: { ...apiConfig, requestTimeoutMs } });

/** A Temporal client whose server does not answer: nothing listens there. */
async function withoutTemporal<T>(use: (client: Client) => Promise<T>): Promise<T> {
  // Never closed: the SDK throws outside of any call when it retries on a closed channel, and there is no socket to close.
  return use(new Client({ connection: Connection.lazy({ address: '127.0.0.1:1' }) }));
}

test('while Temporal is down a task is accepted, and its start is in the outbox, due now [fault-13]', () =>
  withoutTemporal(async (client) => {
    const services = createServices({ ...api.deps, temporal: async () => client, config: { ...api.deps.config, temporalTimeoutMs: 300 } });
    const answer = await post(serve(services));
    expect(answer.status).toBe(201);
    const { id } = (await answer.json()) as TaskView;
    await eventually(async () => {
      const rows = await api.database.sql`select kind, workflow_id, payload from outbox where task_id = ${id} and next_at <= now()`;
      expect(rows).toMatchObject([{ kind: 'start', workflow_id: `task-${id}`, payload: { attempt: 1 } }]);
      return true;
    });
    const health = (await services.health()) satisfies HealthView;
    expect(health.checks.temporal_connection.status).toBe('down');
    expect(health.checks.database_connection.status).toBe('ok');
    expect(health.status).toBe('degraded');
    expect(await services.ready()).toBe(true);
  }));

test('a queued task can be cancelled while Temporal is down [fault-13]', () =>
  withoutTemporal(async (client) => {
    const task = await api.task(api.keys.ann);
    const services = createServices({ ...api.deps, temporal: async () => client, config: { ...api.deps.config, temporalTimeoutMs: 300 } });
    const answer = await serve(services).request(`/api/v1/tasks/${task.id}`, { method: 'DELETE', headers: { 'X-API-Key': api.keys.ann } });
    expect(answer.status).toBe(200);
    expect(await answer.json()).toMatchObject({ status: 'cancelled' });
  }));

test('a task that was started leaves no outbox row behind [TASK-13]', async () => {
  const { id } = await api.task(api.keys.ann);
  await eventually(async () => (await api.database.sql`select 1 from outbox where task_id = ${id}`).length === 0);
});

test('when the answer to the commit is lost the task is stored once and the caller gets it [fault-19]', async () => {
  const { hostname, port } = new URL(api.database.url);
  const proxy = await startAnswerLossProxy({ host: hostname, port: Number(port) });
  const sql = connect(proxy.through(api.database.url), { applicationName: 'api-test', connectionsMax: 2 });
  try {
    const app = serve(createServices({ ...api.deps, sql }));
    const before = await tasksStored();
    for (const headers of [{}, { 'Idempotency-Key': randomUUID() }]) {
      proxy.loseNext('template_hash');
      const answer = await post(app, headers);
      expect(answer.status).toBe(201);
      const { id } = (await answer.json()) as TaskView;
      expect(await api.database.sql`select kind from task_events where task_id = ${id}`).toHaveLength(1);
    }
    expect(proxy.lost).toEqual(['template_hash', 'template_hash']);
    expect(await tasksStored()).toBe(before + 2);
  } finally {
    await disconnect(sql);
    await proxy.close();
  }
});

test('a client that lost the answer and asks again with its key gets the same task, from any process [fault-2]', async () => {
  const key = { 'Idempotency-Key': randomUUID() };
  const lost = await post(serve(createServices(api.deps)), key);
  const again = await post(serve(createServices(api.deps)), key);
  expect(again.status).toBe(200);
  expect(((await again.json()) as TaskView).id).toBe(((await lost.json()) as TaskView).id);
});

async function behindProxy(use: (proxy: Awaited<ReturnType<typeof startFaultProxy>>, sql: Sql) => Promise<void>): Promise<void> {
  const target = new URL(api.database.url);
  const proxy = await startFaultProxy({ host: target.hostname, port: Number(target.port) });
  const url = new URL(api.database.url);
  url.port = String(proxy.port);
  const sql = connect(url.href, { applicationName: 'api-test', connectionsMax: 3 });
  try {
    await use(proxy, sql);
  } finally {
    proxy.cutAll();
    await disconnect(sql);
    await proxy.close();
  }
}

test('a database that takes connections and never answers gives 503, and is used again when it recovers [fault-20]', () =>
  behindProxy(async (proxy, sql) => {
    const app = serve(createServices({ ...api.deps, sql }), 1_000);
    proxy.fault({ kind: 'stall', direction: 'down', afterBytes: 0 }, 1_000);
    const answer = await post(app);
    expect(answer.status).toBe(503);
    expect(answer.headers.get('retry-after')).toBe('2');
    expect(await answer.json()).toMatchObject({ code: 'unavailable' });
    proxy.heal();
    proxy.cutAll();
    await eventually(async () => (await post(app)).status === 201);
  }));

test('a database that is away gives 503 for every address but liveness, and flips only the checks that need it [OBS-05, fault-18]', () =>
  behindProxy(async (proxy, sql) => {
    const services = createServices({ ...api.deps, sql });
    const app = serve(services);
    expect((await post(app)).status).toBe(201);
    proxy.fault({ kind: 'refuse' }, 1_000);
    proxy.cutAll();
    for (const url of ['/api/v1/tasks', '/readyz']) {
      const answer = await app.request(url, { headers: { 'X-API-Key': api.keys.ann } });
      expect(answer.status).toBe(503);
      expect(await answer.json()).toMatchObject({ code: 'unavailable' });
    }
    expect((await app.request('/healthz')).status).toBe(200);
    const health = await services.health();
    expect(health.status).toBe('down');
    expect(health.checks.database_connection.status).toBe('down');
    expect(health.checks.temporal_connection.status).toBe('ok');
    proxy.heal();
    await eventually(async () => (await app.request('/readyz')).status === 200);
  }));

test('each part flips only its own check [OBS-05]', async () => {
  const states = async () => {
    const answer = await api.request(api.keys.viewer, 'GET', '/api/v1/health');
    const { checks } = (await answer.json()) as HealthView;
    return {
      engine: checks.engine.status,
      ollama: checks.ollama.status,
      database: checks.database_connection.status,
      temporal: checks.temporal_connection.status,
    };
  };
  const around = { database: 'ok', temporal: 'ok' };
  expect(await states()).toEqual({ engine: 'down', ollama: 'down', ...around });
  await api.database.sql`insert into engines (id, slots, lease_until) values ('e1', 4, now() + interval '1 hour')`;
  expect(await states()).toEqual({ engine: 'ok', ollama: 'down', ...around });
  await api.database
    .sql`insert into hosts (id, lease_until, address, ready) values ('h1', now() + interval '1 hour', 'http://127.0.0.1:11434', true), ('h2', now() - interval '1 hour', 'http://127.0.0.1:11435', true)`;
  expect(await states()).toEqual({ engine: 'ok', ollama: 'degraded', ...around });
  await api.database.sql`update engines set lease_until = now() - interval '1 second'`;
  await api.database.sql`delete from hosts where id = 'h2'`;
  expect(await states()).toEqual({ engine: 'down', ollama: 'ok', ...around });
});

test('health says how scripts are fenced, and that they are refused where they cannot be [SEC-14, OBS-05]', async () => {
  const engine = async () => (await api.services.health()).checks.engine;
  const insert = (id: string, sandbox: string) =>
    api.database.sql`insert into engines (id, slots, lease_until, info) values (${id}, 4, now() + interval '1 hour', ${api.database.sql.json({ sandbox })})`;
  await insert('fenced', 'bwrap');
  expect(await engine()).toMatchObject({ status: 'ok', detail: expect.stringContaining('bubblewrap (level bwrap)') });
  await insert('weak', 'none');
  expect((await engine()).detail).toContain('NOT fenced (level none)');
  await insert('refusing', 'refused');
  expect(await engine()).toMatchObject({ status: 'degraded', detail: expect.stringContaining('SANDBOX_MIN') });
  await api.database.sql`delete from engines where id in ('fenced', 'weak', 'refusing')`;
});

test('health says when a model server has a version that is not supported, and why one takes no work [MODEL-01, OBS-05]', async () => {
  const { sql } = api.database;
  await sql`update hosts set lease_until = now() + interval '1 hour', ready = true, info = ${sql.json({ version: '0.1.0', warning: 'Ollama 0.1.0 is older than 0.17.1' })} where id = 'h1'`;
  const ollama = async () => (await api.services.health()).checks.ollama;
  expect(await ollama()).toMatchObject({ status: 'degraded', detail: expect.stringContaining('older than 0.17.1') });
  await sql`update hosts set ready = false, info = ${sql.json({ why: 'another installation uses it' })} where id = 'h1'`;
  expect(await ollama()).toMatchObject({ status: 'down', detail: expect.stringContaining('another installation uses it') });
  await sql`update hosts set ready = true, info = '{}' where id = 'h1'`;
  expect(await ollama()).toMatchObject({ status: 'ok' });
});

test('an unexpected error is logged whole and answered without its message [TASK-25, SEC-13]', async () => {
  const lines: string[] = [];
  const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(line) });
  const services: Services = { ...api.services, listModels: async () => Promise.reject(new Error('the password is swordfish')) };
  const app = createApp({ services, log, config: apiConfig });
  const answer = await app.request('/api/v1/models', { headers: { 'X-API-Key': api.keys.ann } });
  const body = await answer.text();
  expect(answer.status).toBe(500);
  expect(body).not.toContain('swordfish');
  const { request_id: requestId } = JSON.parse(body) as { request_id: string };
  expect(lines.find((line) => line.includes('swordfish'))).toContain(requestId);
});

test.each(['json', 'text'] as const)(
  'the request id of a 500 is found in the log as %s, beside the error and the address [OBS-07, TASK-25]',
  async (format) => {
    const lines: string[] = [];
    const log = createLogger({ level: 'INFO', format, handlers: [], file: { path: '', maxSizeBytes: 1, backupCount: 0 } }, 'api', [
      { write: (line: string) => void lines.push(line) },
    ]);
    const services: Services = { ...api.services, listModels: async () => Promise.reject(new Error('the disk sank')) };
    const answer = await createApp({ services, log, config: apiConfig }).request('/api/v1/models', { headers: { 'X-API-Key': api.keys.ann } });
    const { request_id: requestId } = (await answer.json()) as { request_id: string };
    const found = lines.filter((line) => line.includes(requestId));
    expect(found).toHaveLength(2);
    expect(found[0]).toContain('the disk sank');
    for (const part of ['GET', '/api/v1/models', '500']) expect(found[1]).toContain(part);
  },
);

test('no line of the log has an API key, and each request has one with its id, task and user [SEC-13]', async () => {
  const lines: string[] = [];
  const log = pino({ level: 'trace' }, { write: (line: string) => void lines.push(line) });
  const services = createServices({ ...api.deps, log });
  const app = createApp({ services, log, config: apiConfig });
  const { id } = (await (await post(app)).json()) as TaskView;
  await app.request(`/api/v1/tasks/${id}?x=${api.keys.ann}`, { headers: { Authorization: `Bearer ${api.keys.ann}` } });
  await app.request('/api/v1/tasks', { headers: { 'X-API-Key': `${api.keys.ann}x` } });
  expect(lines.join('')).not.toContain(api.keys.ann);
  const requests = lines.map((line) => JSON.parse(line) as Record<string, unknown>).filter((line) => line['msg'] === 'request');
  expect(requests).toMatchObject([{ status: 201, user: 'ann' }, { status: 422, user: 'ann', task_id: id }, { status: 401 }]);
  expect(new Set(requests.map((line) => line['request_id'])).size).toBe(3);
});

test('a server that is told to stop finishes what is under way and takes nothing new [fault-3]', async () => {
  let release = (): void => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  let entered = 0;
  const services: Services = {
    ...api.services,
    async listModels() {
      entered += 1;
      await held;
      return api.services.listModels();
    },
  };
  const server = await listen(serve(services), { hostname: '127.0.0.1', port: 0, log: silent });
  const url = `http://127.0.0.1:${server.port}/api/v1/models`;
  const headers = { 'X-API-Key': api.keys.ann };
  const underWay = Promise.all(Array.from({ length: 5 }, async () => (await fetch(url, { headers })).status));
  await eventually(() => entered === 5);
  const closed = server.close();
  await expect(fetch(url, { headers })).rejects.toThrow();
  release();
  expect(await underWay).toEqual([200, 200, 200, 200, 200]);
  await closed;
});

test('a request that never ends does not keep a stopping server, which may be told to stop more than once [fault-3]', async () => {
  let entered = false;
  const services: Services = {
    ...api.services,
    listModels: () => {
      entered = true;
      return new Promise(() => {});
    },
  };
  const server = await listen(serve(services), { hostname: '127.0.0.1', port: 0, log: silent });
  const stuck = fetch(`http://127.0.0.1:${server.port}/api/v1/models`, { headers: { 'X-API-Key': api.keys.ann } }).catch(() => 'cut');
  await eventually(() => entered);
  const draining = server.close(600_000);
  await server.close(100);
  await draining;
  expect(await stuck).toBe('cut');
  await server.close(); // one that has stopped is no fault of those who stop it again
});
