import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { DecisionListView } from '../../../contract/schemas/decision.js';
import type { ModelListView, ModelOrderView } from '../../../contract/schemas/model.js';
import type { QueueView } from '../../../contract/schemas/queue.js';
import type { TaskPreviewView } from '../../../contract/schemas/task-preview.js';
import type { TaskView } from '../../../contract/schemas/task.js';
import { acquireHost, setHostReady } from '../../../db/leases.js';
import { type ApiUnderTest, apiUnderTest } from './api-under-test.js';

const digest = `sha256:${'ab'.repeat(32)}`;
let api: ApiUnderTest;
let epoch: number;
beforeAll(async () => {
  api = await apiUnderTest({
    deps: {
      deployment: {
        numCtx: 4096,
        allowedRegistries: ['registry.ollama.ai'],
        timeoutSecondsMax: 3600,
        gitSchemes: ['https'],
        mayPull: true,
        aliases: new Map([
          ['fast', { name: 'small:latest', digest: null }],
          ['fixed', { name: 'big:latest', digest }],
        ]),
        profiles: new Map([
          ['fast', { options: { temperature: 0.1, num_ctx: 2048 } }],
          ['small:latest', { options: { temperature: 0.9, top_k: 5 }, system: 'Be brief.' }],
        ]),
      },
    },
  });
});
afterAll(async () => api.stop());
beforeEach(async () => {
  const { sql } = api.database;
  await api.database.empty('hosts', 'residency', 'residency_orders', 'residency_backoff', 'outbox', 'models', 'line', 'tasks');
  epoch = await acquireHost(sql, { host: 'h1', address: 'http://127.0.0.1:1', parallel: 1 });
  await setHostReady(sql, 'h1', epoch, true, {});
});

const order = async (name: string, action: string, body: object = {}, key = api.keys.admin) => {
  const answer = await api.request(key, 'POST', `/api/v1/models/${encodeURIComponent(name)}/${action}`, body);
  return { status: answer.status, body: (await answer.json()) as ModelOrderView & { code?: string; detail?: string } };
};
const serve = (model: string) => api.database.sql`
  insert into residency (host, host_epoch, key, model, num_ctx, state, order_id) values ('h1', ${epoch}, ${`${model}~ctx4096`}, ${model}, 4096, 'serving', ${randomUUID()})`;
const enter = async (model: string) => {
  const task = await api.task(api.keys.ann, { parameters: { model, prompt: 'x' } });
  await api.database.sql`select line_enter(${task.id}, 1, 'run', 'run', 'ollama_generate', 1, 'model', ${`${model}~ctx4096`})`;
  return task;
};
const close = () => api.database.sql`update residency_orders set state = 'done'`;

test('a load, an unload and a pull are orders of the host, told to its workflow, and can be followed [MODEL-15]', async () => {
  const { sql } = api.database;
  await serve('other:latest');
  const loaded = await order('Small', 'load', { num_ctx: 8192 });
  expect(loaded).toMatchObject({ status: 202, body: { action: 'load', model: 'small:latest', host: 'h1', state: 'open', requested_by: 'root' } });
  const [message] = await sql<{ payload: object; workflow_id: string }[]>`select payload, workflow_id from outbox where kind = 'residency'`;
  expect(message).toMatchObject({
    workflow_id: 'residency-h1',
    payload: { unload: ['other:latest~ctx4096'], load: { key: 'small:latest~ctx8192', model: { name: 'small:latest', numCtx: 8192 } } },
  });
  const followed = await api.request(api.keys.admin, 'GET', `/api/v1/model-orders/${loaded.body.order_id}`);
  expect(await followed.json()).toEqual(loaded.body);
  await close();
  expect(await order('other', 'unload')).toMatchObject({ status: 202, body: { action: 'unload', model: 'other:latest' } });
  await close();
  expect(await order('hub/thing:7b', 'pull')).toMatchObject({ status: 202, body: { action: 'pull', model: 'hub/thing:7b' } });
  const [pull] = await sql<{ payload: object }[]>`select payload from outbox where kind = 'residency' order by id desc limit 1`;
  expect(pull?.payload).toMatchObject({ pull: 'hub/thing:7b', load: null, unload: [] });
});

test('who asked for a change of models is told to administrators alone [MODEL-15, SEC-03]', async () => {
  const reasons = async (key: string) => {
    const read = async <T>(path: string) => (await (await api.request(key, 'GET', path)).json()) as T;
    const { changes } = await read<QueueView>('/api/v1/queue');
    const { items } = await read<DecisionListView>('/api/v1/decisions?kind=residency&limit=1');
    return [changes[0]?.reason, items[0]?.reason];
  };
  const { body } = await order('small', 'load');
  expect(body.reason).toBe('load small:latest, asked for by root');
  expect(await reasons(api.keys.admin)).toEqual([body.reason, body.reason]);
  for (const key of [api.keys.ann, api.keys.viewer]) {
    const told = 'load small:latest, asked for by an administrator';
    expect(await reasons(key)).toEqual([told, told]);
  }
});

test('a load unloads no more than it has to: another context of the model, then what nobody waits for [MODEL-09, MODEL-15]', async () => {
  const { sql } = api.database;
  const unloaded = async (room: { modelsMax: number; roomBytes: number | null }) => {
    await setHostReady(sql, 'h1', epoch, true, {}, { ...room, budgetBytes: room.roomBytes, spillBytes: 0 });
    expect(await order('small', 'load')).toMatchObject({ status: 202 });
    const [last] = await sql<{ unload: string[] }[]>`update residency_orders set state = 'done' where state = 'open' returning unload`;
    return last?.unload;
  };
  for (const model of ['needed:latest', 'idle:latest']) await serve(model);
  await enter('needed:latest');
  await sql`update line set state = 'waiting', grant_id = null, host = null, host_epoch = null, slot = null`;
  await sql`insert into models (host, name, digest, size_bytes) values ('h1', 'small:latest', 'd', 100), ('h1', 'needed:latest', 'd', 300), ('h1', 'idle:latest', 'd', 300)`;
  expect(await unloaded({ modelsMax: 3, roomBytes: null })).toEqual([]);
  expect(await unloaded({ modelsMax: 2, roomBytes: null })).toEqual(['idle:latest~ctx4096']);
  expect(await unloaded({ modelsMax: 3, roomBytes: 1_000 })).toEqual([]);
  expect(await unloaded({ modelsMax: 3, roomBytes: 600 })).toEqual(['idle:latest~ctx4096']);
  expect(await unloaded({ modelsMax: 3, roomBytes: 200 })).toEqual(['idle:latest~ctx4096', 'needed:latest~ctx4096']);
  await sql`insert into residency (host, host_epoch, key, model, num_ctx, state, order_id) values ('h1', ${epoch}, 'small:latest~ctx512', 'small:latest', 512, 'serving', gen_random_uuid())`;
  expect(await unloaded({ modelsMax: 8, roomBytes: null })).toEqual(['small:latest~ctx512']);
});

test('where no host is named the order goes to one that has the model, and the list tells the hosts [MODEL-15, MODEL-17]', async () => {
  const { sql } = api.database;
  const second = await acquireHost(sql, { host: 'h2', address: 'http://127.0.0.1:2', parallel: 2 });
  await setHostReady(sql, 'h2', second, true, { version: '0.24.0' }, { modelsMax: 2, roomBytes: 900, budgetBytes: 1_000, spillBytes: 0 });
  const hostOf = async (name: string, action: string) => {
    const { body } = await order(name, action);
    await close();
    return body.host;
  };
  await sql`insert into models (host, name, digest, loaded, memory_bytes) values ('h2', 'small:latest', 'd', true, 70), ('h1', 'big:latest', 'd', false, null)`;
  expect(await hostOf('small', 'load')).toBe('h2');
  expect(await hostOf('big', 'load')).toBe('h1');
  expect(await hostOf('absent', 'pull')).toBe('h2');
  await serve('absent:latest');
  expect(await hostOf('absent', 'unload')).toBe('h1');

  const list = async () => (await (await api.request(api.keys.viewer, 'GET', '/api/v1/models')).json()) as ModelListView;
  const ready = {
    id: 'h2',
    ready: true,
    why: null,
    address: 'http://127.0.0.1:2',
    version: '0.24.0',
    parallel: 2,
    models_max: 2,
    budget_bytes: 1_000,
    room_bytes: 900,
  };
  expect(await list()).toMatchObject({ hosts: [{ id: 'h1', ready: true, budget_bytes: null }, ready] });
  expect((await list()).items).toContainEqual(expect.objectContaining({ host: 'h2', loaded: true, memory_bytes: 70 }));
  await sql`update hosts set lease_until = now() - interval '1 second' where id = 'h2'`;
  expect((await list()).hosts[1]).toMatchObject({ id: 'h2', ready: false, why: expect.stringMatching(/^it has not been heard of since \d{4}-/) });
  expect((await list()).items).toContainEqual(expect.objectContaining({ host: 'h2', loaded: false, memory_bytes: null }));
  await sql`update hosts set lease_until = now() - interval '25 hours' where id = 'h2'`;
  expect((await list()).hosts).toHaveLength(1);
});

test('what is as it was asked for needs no order [MODEL-15]', async () => {
  await serve('small:latest');
  expect(await order('fast', 'load')).toMatchObject({ status: 202, body: { order_id: null, state: 'done', model: 'small:latest' } });
  expect(await order('absent', 'unload')).toMatchObject({ status: 202, body: { order_id: null, state: 'done' } });
  expect(await api.database.sql`select 1 from residency_orders`).toHaveLength(0);
});

test('a model that steps run on or wait for is not unloaded, and not displaced while they run [MODEL-06, MODEL-15]', async () => {
  const { sql } = api.database;
  await serve('small:latest');
  const task = await enter('small:latest');
  const refused = await order('small', 'unload');
  expect(refused).toMatchObject({ status: 409, body: { code: 'model_in_use' } });
  expect(refused.body.detail).toContain(task.id);
  // It waits only: another model may be loaded, and the policy loads this one again.
  await sql`update line set state = 'running', grant_id = gen_random_uuid(), claim_token = gen_random_uuid(), host = 'h1', host_epoch = ${epoch}, slot = 1`;
  expect(await order('big', 'load')).toMatchObject({ status: 409, body: { code: 'model_in_use' } });
  expect(await order('big', 'pull')).toMatchObject({ status: 202 });
});

test('one change of a host at a time, also against a decision of the engine [MODEL-15]', async () => {
  const answers = await Promise.all(Array.from({ length: 5 }, () => order('small', 'load')));
  expect(answers.map(({ status }) => status).sort()).toEqual([202, 409, 409, 409, 409]);
  expect(await order('small', 'unload')).toMatchObject({ status: 409, body: { code: 'model_busy' } });
});

test('models are fetched while a host changes others, eight at a time [MODEL-15]', async () => {
  expect(await order('small', 'load')).toMatchObject({ status: 202 });
  for (let nth = 0; nth < 8; nth += 1) expect(await order(`fetched-${nth}`, 'pull')).toMatchObject({ status: 202, body: { action: 'pull' } });
  expect(await order('fetched-8', 'pull')).toMatchObject({ status: 409, body: { code: 'model_busy' } });
  const { changes } = (await (await api.request(api.keys.admin, 'GET', '/api/v1/queue')).json()) as QueueView;
  expect(changes.slice(0, 2)).toMatchObject([
    { load: 'small:latest', pull: null },
    { load: null, pull: 'fetched-0:latest' },
  ]);
  const told = await api.database.sql<
    { workflow_id: string; id: string }[]
  >`select workflow_id, payload ->> 'id' as id from outbox where payload ->> 'pull' is not null`;
  expect(told).toHaveLength(8);
  for (const { workflow_id: workflow, id } of told) expect(workflow).toBe(`fetch-${id}`);
});

test('without a ready host, with one that is not there, and with a model that may not be pulled, nothing is ordered [MODEL-15]', async () => {
  expect(await order('small', 'load', { host: 'h2' })).toMatchObject({ status: 503, body: { code: 'host_unavailable' } });
  await setHostReady(api.database.sql, 'h1', epoch, false, {});
  expect(await order('small', 'pull')).toMatchObject({ status: 503, body: { code: 'host_unavailable' } });
  expect(await api.database.sql`select 1 from residency_orders`).toHaveLength(0);
});

test.each([
  '../../x',
  'a b',
  'x'.repeat(500),
  'evil.com/x/y',
  'http://169.254.169.254/a/b',
  'gpt-oss:120b-cloud',
  'x:20b:cloud',
  'm@sha256:abc',
  'a\u0000b',
  '%2e%2e',
])('the name %j is refused before any order [MODEL-15, bad-40]', async (name) => {
  for (const action of ['load', 'unload', 'pull']) expect(await order(name, action)).toMatchObject({ status: 422, body: { code: 'model_refused' } });
});

test('only administrators order models, and an order that is not there is not found [MODEL-15, SEC-05]', async () => {
  for (const key of [api.keys.ann, api.keys.viewer])
    for (const action of ['load', 'unload', 'pull']) expect((await order('small', action, {}, key)).status).toBe(403);
  for (const id of ['x', randomUUID()]) expect((await api.request(api.keys.admin, 'GET', `/api/v1/model-orders/${id}`)).status).toBe(404);
});

test('an alias is resolved when a task is submitted, both names stay with it, and its profile stands below what the step says [MODEL-11]', async () => {
  const task = await api.task(api.keys.ann, { parameters: { model: 'fast', prompt: 'x' } });
  expect(task.models).toEqual([{ name: 'small:latest', alias: 'fast', digest: null }]);
  const pinned = await api.task(api.keys.ann, { parameters: { model: 'fixed', prompt: 'x' } });
  expect(pinned.models).toEqual([{ name: 'big:latest', alias: 'fixed', digest }]);
  const list = (await (await api.request(api.keys.ann, 'GET', '/api/v1/tasks?limit=1')).json()) as { items: TaskView[] };
  expect(list.items[0]?.models).toEqual(pinned.models);
  const input = async (parameters: object) => {
    const answer = await api.request(api.keys.ann, 'POST', '/api/v1/tasks?dry_run=true', { template: 'ollama-inference', parameters });
    return ((await answer.json()) as TaskPreviewView).steps[0]?.input;
  };
  expect(await input({ model: 'fast', prompt: 'x', system_prompt: 'Mine.' })).toMatchObject({
    model: 'small:latest',
    system: 'Mine.',
    options: { temperature: 0.1, top_k: 5, num_ctx: 2048 },
  });
  expect(await input({ model: 'small', prompt: 'x' })).toMatchObject({
    model: 'small:latest',
    system: 'Be brief.',
    options: { temperature: 0.9, top_k: 5, num_ctx: 4096 },
  });
});

test('the list of models has their aliases, how far a pull is and what they were used for [MODEL-15, MODEL-16]', async () => {
  const { sql } = api.database;
  await sql`insert into models (host, name, digest, details) values ('h1', 'small:latest', 'd', '{"pull":{"status":"pulling","completed_bytes":5,"total_bytes":10}}')`;
  await serve('small:latest');
  await sql`insert into model_usage (name, inferences, inference_time_seconds, prompt_tokens, output_tokens) values ('small:latest', 3, 1.5, 30, 12)`;
  const { items, aliases } = (await (await api.request(api.keys.viewer, 'GET', '/api/v1/models')).json()) as ModelListView;
  expect(items[0]).toMatchObject({
    name: 'small:latest',
    aliases: ['fast'],
    serving: true,
    pull: { status: 'pulling', completed_bytes: 5, total_bytes: 10 },
    usage: { inferences: 3, inference_time_seconds: 1.5, prompt_tokens: 30, output_tokens: 12 },
  });
  expect(aliases).toContainEqual({ alias: 'fixed', name: 'big:latest', digest });
});
