import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ApiUnderTest, apiUnderTest } from './api-under-test.js';

let api: ApiUnderTest;
beforeAll(async () => {
  api = await apiUnderTest({ deps: { config: { priorityLevels: 60, temporalTimeoutMs: 5_000, queueMax: 5, version: 'test' } } });
});
afterAll(async () => api.stop());

const create = (headers: Record<string, string> = {}) =>
  api.request(api.keys.ann, 'POST', '/api/v1/tasks', { template: 'ollama-inference', parameters: { model: 'llama3.2', prompt: 'hello' } }, headers);

test('when as many tasks are queued as may be, a further one is refused with the time to come back, and one that ran makes room [TASK-24, SCHED-20]', async () => {
  const { sql } = api.database;
  for (let count = 0; count < 5; count += 1) expect((await create({ 'Idempotency-Key': `key-${count}` })).status).toBe(201);
  const refused = await create();
  expect(refused.status).toBe(503);
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
  expect(await refused.json()).toMatchObject({ code: 'queue_full', detail: expect.stringContaining('5 tasks are queued') });
  expect(await sql`select 1 from tasks`).toHaveLength(5);
  expect(await sql`select 1 from idempotency_keys`).toHaveLength(5);
  // What was stored before is answered, however full the queue is.
  expect((await create({ 'Idempotency-Key': 'key-0' })).status).toBe(200);
  await sql`update tasks set status = 'running', started_at = now() where id = (select id from tasks limit 1)`;
  expect((await create()).status).toBe(201);
  expect((await create()).status).toBe(503);
});
