import { afterAll, beforeAll, expect, test } from 'vitest';
import type { TaskPreviewView } from '../../../contract/schemas/task-preview.js';
import type { TaskView } from '../../../contract/schemas/task.js';
import { type ApiUnderTest, apiUnderTest } from './api-under-test.js';

let api: ApiUnderTest;
beforeAll(async () => {
  api = await apiUnderTest();
});
afterAll(async () => api.stop());

const replay = async (id: string, changes: object = {}, key = api.keys.ann, headers: Record<string, string> = {}) => {
  const answer = await api.request(key, 'POST', `/api/v1/tasks/${id}/replay`, changes, headers);
  return { status: answer.status, body: (await answer.json()) as TaskView & { code?: string; errors?: { path: string; message: string }[] } };
};

test('a replay is a task of its own with the same input, and names the one it replays and the first of the chain [TASK-18]', async () => {
  const first = await api.task(api.keys.ann, {
    name: 'first',
    description: 'why',
    priority: 8,
    metadata: { ticket: 7 },
    retry: { max_attempts: 2 },
    limits: { memory_gb: 1 },
  });
  const second = await replay(first.id);
  expect(second).toMatchObject({
    status: 201,
    body: {
      status: 'queued',
      name: 'first',
      priority: 8,
      metadata: { ticket: 7 },
      parameters: first.parameters,
      template_hash: first.template_hash,
      replayed_from: first.id,
      origin_id: first.id,
    },
  });
  expect(second.body.id).not.toBe(first.id);
  const third = await replay(second.body.id);
  expect(third.body).toMatchObject({ replayed_from: second.body.id, origin_id: first.id });
  const { sql } = api.database;
  const plans = await sql<{ plan: object }[]>`select plan from tasks where id = any(${[first.id, third.body.id]}::uuid[])`;
  expect(plans[0]?.plan).toEqual(plans[1]?.plan);
  const events = await sql<{ data: object }[]>`select data from task_events where task_id = ${first.id} and kind = 'replayed'`;
  expect(events.map(({ data }) => data)).toEqual([{ replay: second.body.id }]);
});

test('what is given replaces what was there, and null takes a parameter away [TASK-18]', async () => {
  const task = await api.task(api.keys.ann, { parameters: { model: 'llama3.2', prompt: 'one', system_prompt: 'be brief' } });
  const changed = await replay(task.id, { parameters: { prompt: 'two', system_prompt: null }, priority: 2, name: 'again', metadata: { n: 2 } });
  expect(changed.body).toMatchObject({ parameters: { model: 'llama3.2', prompt: 'two' }, priority: 2, name: 'again', metadata: { n: 2 } });
  expect(changed.body.parameters).not.toHaveProperty('system_prompt');
  expect(await replay(task.id, { parameters: { prompt: null } })).toMatchObject({ status: 422, body: { code: 'invalid_parameters' } });
  expect(await replay(task.id, { parameters: { nonsense: 1 } })).toMatchObject({
    status: 422,
    body: { code: 'invalid_parameters', errors: [{ path: 'parameters.nonsense' }] },
  });
  expect(await replay(task.id, { template: 'nothing' })).toMatchObject({ status: 422, body: { code: 'template_not_found' } });
});

test('a key makes a replay happen once, and tells it from another one [TASK-23]', async () => {
  const [one, two] = [await api.task(api.keys.ann), await api.task(api.keys.ann)];
  const key = { 'Idempotency-Key': 'replay-once' };
  const first = await replay(one.id, {}, api.keys.ann, key);
  expect(await replay(one.id, {}, api.keys.ann, key)).toMatchObject({ status: 200, body: { id: first.body.id } });
  expect(await replay(two.id, {}, api.keys.ann, key)).toMatchObject({ status: 409, body: { code: 'idempotency_conflict' } });
});

test('a task of somebody else is not replayed, and one of a viewer is not either [TASK-18, SEC-05]', async () => {
  const theirs = await api.task(api.keys.bob);
  for (const id of [theirs.id, 'x', '00000000-0000-4000-8000-000000000000'])
    expect(await replay(id)).toMatchObject({ status: 404, body: { code: 'task_not_found' } });
  expect((await replay(theirs.id, {}, api.keys.viewer)).status).toBe(403);
});

test('a dry run shows the rendered steps, models, retries and what waits, and stores nothing [TASK-02, TPL-23]', async () => {
  const { sql } = api.database;
  const count = async () => Number((await sql`select count(*) from tasks`)[0]?.['count']);
  const before = await count();
  const body = {
    template: 'file-processing',
    parameters: { input_files: ['a.txt'], analysis_model: 'llama3.2', output_format: 'json' },
    priority: 7,
    retry: { max_attempts: 5 },
  };
  const answer = await api.request(api.keys.ann, 'POST', '/api/v1/tasks?dry_run=true', body, { 'Idempotency-Key': 'dry' });
  expect(answer.status).toBe(200);
  const preview = (await answer.json()) as TaskPreviewView;
  expect(preview).toMatchObject({
    template: 'file-processing',
    priority: 7,
    models: [{ name: 'llama3.2:latest', alias: null, digest: null }],
    steps: [
      { id: 'read_files', pool: 'general', input: { files: ['a.txt'] }, retry: { max_attempts: 5 } },
      { id: 'ollama_analyze', pool: 'model', model: 'llama3.2:latest', needs: ['read_files'] },
      { id: 'format_output', input: { format: 'json' } },
    ],
  });
  expect(await count()).toBe(before);
  expect(await sql`select 1 from idempotency_keys where key = 'dry'`).toHaveLength(0);
  const unknown = '00000000-0000-4000-8000-000000000000';
  for (const [bad, code] of [
    [{ ...body, parameters: {} }, 'invalid_parameters'],
    [{ ...body, template: 'nothing' }, 'template_not_found'],
    [{ ...body, depends_on: [unknown] }, 'invalid_dependency'],
    [{ ...body, depends_on: ['x'] }, 'invalid_dependency'],
  ] as const) {
    expect(await (await api.request(api.keys.ann, 'POST', '/api/v1/tasks?dry_run=true', bad)).json()).toMatchObject({ status: 422, code });
  }
  expect((await api.request(api.keys.ann, 'POST', '/api/v1/tasks?dry_run=maybe', body)).status).toBe(422);
  expect((await api.request(api.keys.ann, 'POST', '/api/v1/tasks?dry_run=false', body)).status).toBe(201);
});
