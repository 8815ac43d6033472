import { afterAll, beforeAll, expect, test } from 'vitest';
import type { TaskView } from '../../../contract/schemas/task.js';
import { writeForecast } from '../../../db/forecasts.js';
import { forecastEntry as entry } from '../../support/forecast-entry.js';
import { type ApiUnderTest, apiUnderTest } from './api-under-test.js';

let api: ApiUnderTest;
beforeAll(async () => {
  api = await apiUnderTest();
});
afterAll(async () => api.stop());

const read = async (id: string): Promise<TaskView> => (await (await api.request(api.keys.ann, 'GET', `/api/v1/tasks/${id}`)).json()) as TaskView;
const times = ({ estimated_start_time: start, estimated_completion_time: end }: TaskView) => [start, end];

test('a task has the times of the last forecast, alone and in the list, and none before there is one [TASK-04]', async () => {
  const task = await api.task(api.keys.ann);
  expect(times(await read(task.id))).toEqual([null, null]);
  const madeAt = new Date('2030-01-01T00:00:00.000Z');
  await writeForecast(api.database.sql, madeAt, [entry(task.id)]);
  const expected = ['2030-01-01T00:01:00.000Z', '2030-01-01T00:02:30.000Z'];
  expect(times(await read(task.id))).toEqual(expected);
  const { items } = (await (await api.request(api.keys.ann, 'GET', '/api/v1/tasks')).json()) as { items: TaskView[] };
  expect(items.filter(({ id }) => id === task.id).map(times)).toEqual([expected]);
  await writeForecast(api.database.sql, madeAt, [entry(task.id, { start_ms: null, done_ms: null })]);
  expect(times(await read(task.id))).toEqual([null, null]);
});

test('a task of which several steps wait starts with the first and ends with the last; one that runs has no start to come, one that has ended neither [TASK-04]', async () => {
  const task = await api.task(api.keys.ann);
  const madeAt = new Date('2030-01-01T00:00:00.000Z');
  await writeForecast(api.database.sql, madeAt, [entry(task.id), entry(task.id, { step: 'two', start_ms: 10_000, done_ms: 200_000 })]);
  expect(times(await read(task.id))).toEqual(['2030-01-01T00:00:10.000Z', '2030-01-01T00:03:20.000Z']);
  await api.database.sql`update tasks set status = 'running' where id = ${task.id}`;
  expect(times(await read(task.id))).toEqual([null, '2030-01-01T00:03:20.000Z']);
  await api.database.sql`update tasks set status = 'completed' where id = ${task.id}`;
  expect(times(await read(task.id))).toEqual([null, null]);
});
