import { afterAll, beforeAll, expect, test } from 'vitest';
import type { CheckpointView, RestoredCheckpointView } from '../../../contract/schemas/checkpoint.js';
import type { BatchResultView, BulkResultView } from '../../../contract/schemas/many.js';
import type { TaskView } from '../../../contract/schemas/task.js';
import { readState } from '../../../db/state.js';
import { type ApiUnderTest, apiUnderTest } from './api-under-test.js';

let api: ApiUnderTest;
beforeAll(async () => {
  api = await apiUnderTest();
});
afterAll(async () => api.stop());

async function send<Body>(who: 'ann' | 'admin', method: string, url: string, body?: object, headers: Record<string, string> = {}): Promise<Body> {
  const answer = await api.request(api.keys[who], method, `/api/v1${url}`, body, headers);
  expect(answer.status).toBeLessThan(300);
  return (await answer.json()) as Body;
}

async function given(...ids: readonly string[]): Promise<(boolean | undefined)[]> {
  const rows = await api.database.sql<
    { id: string; given: boolean }[]
  >`select id, priority_given as given from tasks where id = any(${ids as string[]}::uuid[])`;
  return ids.map((id) => rows.find((row) => row.id === id)?.given);
}

const [template, parameters] = ['ollama-inference', { model: 'llama3.2', prompt: 'hello' }];

test('a task, an item of a batch and a replay know whether a priority was given; the task itself shows the same [SCHED-18][TASK-04]', async () => {
  const [without, five] = [await api.task(api.keys.ann), await api.task(api.keys.ann, { priority: 5 })];
  expect(without.priority).toBe(5);
  expect(Object.keys(without)).toEqual(Object.keys(five));
  expect(await given(without.id, five.id)).toEqual([false, true]);

  const batch = await send<BatchResultView>('ann', 'POST', '/tasks/batch', {
    tasks: [
      { template, parameters },
      { template, parameters, priority: 5 },
    ],
  });
  expect(await given(...batch.items.map(({ task }) => task?.id ?? ''))).toEqual([false, true]);

  const replays = [await send<TaskView>('ann', 'POST', `/tasks/${without.id}/replay`, {}), await send<TaskView>('ann', 'POST', `/tasks/${five.id}/replay`, {})];
  expect(replays.map(({ priority }) => priority)).toEqual([5, 5]);
  expect(await given(...replays.map(({ id }) => id))).toEqual([false, true]);
  expect(await given((await send<TaskView>('ann', 'POST', `/tasks/${without.id}/replay`, { priority: 5 })).id)).toEqual([true]);
});

test('a priority that is spelled out as the default is the same request for an idempotency key [TASK-23]', async () => {
  const headers = { 'Idempotency-Key': 'default-priority' };
  const [first, second] = [
    await send<TaskView>('ann', 'POST', '/tasks', { template, parameters }, headers),
    await send<TaskView>('ann', 'POST', '/tasks', { template, parameters, priority: 5 }, headers),
  ];
  expect(second.id).toBe(first.id);
  expect(await given(first.id)).toEqual([false]);
});

test('whoever sets a priority, moves a task or changes many has given one, be it the value that it had; a retry changes nothing [SCHED-18]', async () => {
  const [set, moved, beside, many, retried] = [
    (await api.task(api.keys.ann)).id,
    (await api.task(api.keys.ann)).id,
    (await api.task(api.keys.ann)).id,
    (await api.task(api.keys.ann)).id,
    (await api.task(api.keys.ann)).id,
  ];
  await send('ann', 'PATCH', `/tasks/${set}/priority`, { priority: 5 });
  await send('ann', 'POST', '/queue/reorder', { task_id: moved, before: beside });
  const bulk = { action: 'priority', priority: 5, ids: [set, many] };
  const outcomes = async (body: object) => (await send<BulkResultView>('ann', 'POST', '/tasks/bulk', body)).items.map(({ outcome }) => outcome);
  expect(await outcomes({ ...bulk, dry_run: true })).toEqual(['unchanged', 'would_change']);
  expect(await outcomes(bulk)).toEqual(['unchanged', 'changed']);
  expect(await outcomes(bulk)).toEqual(['unchanged', 'unchanged']);
  await send('ann', 'DELETE', `/tasks/${retried}`);
  await send('ann', 'POST', `/tasks/${retried}/retry`);
  expect(await given(set, moved, beside, many, retried)).toEqual([true, true, false, true, false]);
});

test('a checkpoint and an exported state keep whether a priority was given [SCHED-18][DUR-03]', async () => {
  const [set, cancelled, chosen] = [(await api.task(api.keys.ann)).id, (await api.task(api.keys.ann)).id, (await api.task(api.keys.ann, { priority: 4 })).id];
  const checkpoint = await send<CheckpointView>('admin', 'POST', '/checkpoints', { name: 'before' });
  await send('ann', 'PATCH', `/tasks/${set}/priority`, { priority: 5 });
  await send('ann', 'PATCH', `/tasks/${cancelled}/priority`, { priority: 8 });
  await send('ann', 'DELETE', `/tasks/${cancelled}`);
  await send('ann', 'PATCH', `/tasks/${chosen}/priority`, { priority: 9 });
  const restore = async () => {
    const { tasks } = await send<RestoredCheckpointView>('admin', 'POST', `/checkpoints/${checkpoint.id}/restore`);
    return [set, cancelled, chosen].map((id) => tasks.find(({ task_id }) => task_id === id)?.outcome);
  };
  expect(await restore()).toEqual(['moved', 'queued_again', 'moved']);
  expect(await given(set, cancelled, chosen)).toEqual([false, false, true]);
  expect(await restore()).toEqual(['unchanged', 'unchanged', 'unchanged']);
  expect(await given(set, cancelled, chosen)).toEqual([false, false, true]);

  const exported: { id: string; priority_given: boolean }[] = [];
  let table = '';
  await readState(
    api.database.sql,
    async ({ name }) => void (table = name),
    async (row) => void (table === 'tasks' && exported.push(JSON.parse(row))),
  );
  expect([set, cancelled, chosen].map((id) => exported.find((row) => row.id === id)?.priority_given)).toEqual([false, false, true]);
});
