import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ModelTimelineView } from '../../../contract/schemas/model-timeline.js';
import { acquireHost, setHostReady } from '../../../db/leases.js';
import { type ApiUnderTest, apiUnderTest } from './api-under-test.js';

let api: ApiUnderTest;
beforeAll(async () => {
  api = await apiUnderTest();
});
afterAll(async () => api.stop());

const get = async (key: string, query = ''): Promise<ModelTimelineView> => {
  const answer = await api.request(key, 'GET', `/api/v1/models/timeline${query}`);
  expect(answer.status).toBe(200);
  return (await answer.json()) as ModelTimelineView;
};

test('what a host held is told from its first moment to its last, and steps on it by name only to their owner [DASH-04]', async () => {
  const { sql } = api.database;
  const epoch = await acquireHost(sql, { host: 'gpu-1', address: 'http://127.0.0.1:1', parallel: 1 });
  await setHostReady(sql, 'gpu-1', epoch, true, {}, { modelsMax: 1, roomBytes: null, budgetBytes: null, spillBytes: 0 });
  const key = 'llama3.2:latest~ctx4096';
  await sql`insert into residency (host, host_epoch, key, model, num_ctx, state, order_id) values ('gpu-1', ${epoch}, ${key}, 'llama3.2:latest', 4096, 'loading', gen_random_uuid())`;
  await sql`update residency set state = 'serving'`;
  await sql`update residency set since = clock_timestamp()`;
  const { id } = await api.task(api.keys.ann, { name: 'mine' });
  await sql`
    insert into task_executions (task_id, attempt, step, step_type, step_attempt, try, run_id, host, started_at, completed_at, status, metrics)
    values (${id}, 1, 'ask', 'ollama_generate', 1, 1, 'run', 'gpu-1', now() - interval '20 seconds', now() - interval '10 seconds', 'completed', '{"model": "llama3.2:latest"}')`;
  const seen = await get(api.keys.ann);
  expect(seen.held.map(({ host, model, state, until }) => [host, model, state, until === null])).toEqual([
    ['gpu-1', 'llama3.2:latest', 'loading', false],
    ['gpu-1', 'llama3.2:latest', 'serving', true],
  ]);
  expect(seen.steps).toMatchObject([{ host: 'gpu-1', model: 'llama3.2:latest', status: 'completed', task_id: id, name: 'mine' }]);
  expect((await get(api.keys.bob)).steps).toMatchObject([{ status: 'completed', task_id: null, name: null, step: null }]);
  await sql`delete from residency`;
  expect((await get(api.keys.ann, '?past_minutes=5&ahead_minutes=0')).held.map(({ state, until }) => [state, until === null])).toEqual([
    ['loading', false],
    ['serving', false],
  ]);
});

test('a time out of range is refused', async () => {
  for (const query of ['?past_minutes=0', '?past_minutes=1441', '?ahead_minutes=x']) {
    expect((await api.request(api.keys.ann, 'GET', `/api/v1/models/timeline${query}`)).status).toBe(422);
  }
});
