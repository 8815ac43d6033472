import { afterAll, beforeAll, expect, test } from 'vitest';
import type { CheckpointDetailView, CheckpointView, RestoredCheckpointView } from '../../../contract/schemas/checkpoint.js';
import { type ApiUnderTest, apiUnderTest } from './api-under-test.js';

let api: ApiUnderTest;
beforeAll(async () => {
  api = await apiUnderTest();
});
afterAll(async () => api.stop());

const admin = <Body>(method: string, url: string, body?: unknown) =>
  api
    .request(api.keys.admin, method, `/api/v1/checkpoints${url}`, body)
    .then(async (answer) => ({ status: answer.status, body: (await answer.json()) as Body }));
const create = async (name: string) => (await admin<CheckpointView>('POST', '', { name })).body;
const queue = async () =>
  (await api.database.sql<{ id: string }[]>`select id from tasks where status = 'queued' order by priority desc, pos`).map(({ id }) => id);

test('a checkpoint brings back order, priority and cancelled tasks, leaves what ran or came later, and tells of templates [DUR-03]', async () => {
  const [a, b, c, d, e] = [
    await api.task(api.keys.ann, { name: 'a' }),
    await api.task(api.keys.ann, { name: 'b', priority: 9 }),
    await api.task(api.keys.bob, { name: 'c' }),
    await api.task(api.keys.bob, { name: 'd' }),
    await api.task(api.keys.bob, { name: 'e' }),
  ];
  const before = await queue();
  expect(before).toEqual([b.id, a.id, c.id, d.id, e.id]);
  const checkpoint = await create('before');
  expect(checkpoint).toMatchObject({ name: 'before', created_by: 'root', tasks: 5 });

  await api.request(api.keys.ann, 'PATCH', `/api/v1/tasks/${a.id}/priority`, { priority: 10 });
  await api.request(api.keys.ann, 'DELETE', `/api/v1/tasks/${b.id}`);
  await api.database.sql`update tasks set pos = pos + 1000 where id = ${c.id}`;
  await api.database
    .sql`update tasks set status = 'completed', started_at = now(), completed_at = now(), result = '{"text":"hi","steps":{}}' where id = ${d.id}`;
  await api.database.sql`delete from tasks where id = ${e.id}`;
  const later = await api.task(api.keys.ann, { name: 'later' });
  expect(await queue()).toEqual([a.id, later.id, c.id]);

  const restored = await admin<RestoredCheckpointView>('POST', `/${checkpoint.id}/restore`);
  expect(restored.status).toBe(200);
  expect(Object.fromEntries(restored.body.tasks.map(({ task_id, outcome }) => [task_id, outcome]))).toEqual({
    [b.id]: 'queued_again',
    [a.id]: 'moved',
    [c.id]: 'moved',
    [d.id]: 'went_on',
    [e.id]: 'gone',
  });
  expect(restored.body.definitions).toContainEqual({ name: 'ollama-inference', outcome: 'unchanged' });
  expect(await queue()).toEqual([b.id, a.id, c.id, later.id]);

  const again = await admin<RestoredCheckpointView>('POST', `/${checkpoint.id}/restore`);
  expect(again.body.tasks.map(({ outcome }) => outcome)).toEqual(['unchanged', 'unchanged', 'unchanged', 'went_on', 'gone']);
});

test('a checkpoint brings dependencies back, also where they were turned round since [DUR-03, SCHED-06]', async () => {
  const [a, b, c] = [await api.task(api.keys.ann), await api.task(api.keys.ann), await api.task(api.keys.ann)];
  const dependencies = (id: string, method: string, parent: string) =>
    api.request(
      api.keys.ann,
      method,
      `/api/v1/tasks/${id}/dependencies${method === 'DELETE' ? `/${parent}` : ''}`,
      method === 'DELETE' ? undefined : { task_id: parent },
    );
  const waitsFor = async (id: string) =>
    ((await (await api.request(api.keys.ann, 'GET', `/api/v1/tasks/${id}`)).json()) as { depends_on: string[] }).depends_on;
  await dependencies(b.id, 'POST', a.id);
  await dependencies(c.id, 'POST', b.id);
  const checkpoint = await create('with dependencies');
  await dependencies(b.id, 'DELETE', a.id);
  await dependencies(a.id, 'POST', b.id);
  await dependencies(c.id, 'DELETE', b.id);

  const restored = await admin<RestoredCheckpointView>('POST', `/${checkpoint.id}/restore`);
  const outcomes = new Map(restored.body.tasks.map(({ task_id, outcome }) => [task_id, outcome]));
  expect([a, b, c].map(({ id }) => outcomes.get(id))).toEqual(['moved', 'moved', 'moved']);
  expect([await waitsFor(a.id), await waitsFor(b.id), await waitsFor(c.id)]).toEqual([[], [a.id], [b.id]]);
});

test('checkpoints are numbered upwards, listed newest first, and read with the queue and the text of the templates [DUR-03]', async () => {
  const [first, second] = [await create('first'), await create('second')];
  expect(second.id).toBe(first.id + 1);
  const { body } = await admin<{ items: CheckpointView[] }>('GET', '');
  expect(body.items.slice(0, 2)).toEqual([second, first]);
  const task = await api.task(api.keys.ann, { name: 'kept', priority: 10 });
  const kept = await admin<CheckpointDetailView>('GET', `/${(await create('third')).id}`);
  expect(kept.body.content.queue[0]).toMatchObject({ task_id: task.id, name: 'kept', priority: 10, depends_on: [] });
  expect(kept.body.content.definitions.find(({ name }) => name === 'ollama-inference')?.yaml).toContain('type: ollama_generate');
});

test.each(['0', '999999', '-1', '1.5', 'abc', '99999999999999999999', '1%27'])('checkpoint %s is answered as one that is not there [DUR-03]', async (id) => {
  for (const [method, url] of [
    ['GET', `/${id}`],
    ['POST', `/${id}/restore`],
  ] as const) {
    expect(await admin(method, url)).toMatchObject({ status: 404, body: { code: 'unknown_checkpoint' } });
  }
});

test('only administrators write, read and restore checkpoints [DUR-03, SEC-05]', async () => {
  const { id } = await create('theirs');
  for (const key of [api.keys.ann, api.keys.viewer]) {
    for (const [method, url, body] of [
      ['POST', '', {}],
      ['GET', ''],
      ['GET', `/${id}`],
      ['POST', `/${id}/restore`],
    ] as const) {
      expect((await api.request(key, method, `/api/v1/checkpoints${url}`, body)).status).toBe(403);
    }
  }
});
