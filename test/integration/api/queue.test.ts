import { createHash } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { ForecastEntry } from '../../../contract/forecast.js';
import type { QueueEntryView, QueueView } from '../../../contract/schemas/queue.js';
import { writeForecast } from '../../../db/forecasts.js';
import { forecastEntry as entry } from '../../support/forecast-entry.js';
import { type ApiUnderTest, apiUnderTest } from './api-under-test.js';

let api: ApiUnderTest;
beforeAll(async () => {
  api = await apiUnderTest();
});
afterAll(async () => api.stop());
beforeEach(async () => api.database.empty('tasks', 'queue_pauses', 'hosts', 'residency_orders'));

const get = async (key: string, query = ''): Promise<QueueView> => {
  const answer = await api.request(key, 'GET', `/api/v1/queue${query}`);
  expect(answer.status).toBe(200);
  return (await answer.json()) as QueueView;
};
const post = (key: string, url: string, body?: Record<string, unknown>) => api.request(key, 'POST', `/api/v1${url}`, body);
const ids = ({ items }: QueueView) => items.map(({ task_id }) => task_id);

/** A task whose step waits in the line for a model. */
async function waiting(key: string, { model = 'llama3.2:latest', fields = {} }: { model?: string; fields?: Record<string, unknown> } = {}): Promise<string> {
  const { id } = await api.task(key, fields);
  await api.database.sql`
    insert into line (task_id, attempt, step, try, step_attempt, run_id, pool, key, level, exact, pos)
    select id, 1, 'ollama_generate', 1, 1, 'run', 'model', ${`${model}~ctx4096`}, priority_level, priority, pos from tasks where id = ${id}`;
  return id;
}
const forecast = (...entries: readonly ForecastEntry[]) => writeForecast(api.database.sql, new Date('2030-01-01T00:00:00Z'), entries);

test('without a forecast it is the order of the line, and what has not entered it yet is there too [SCHED-22]', async () => {
  const [a, urgent] = [await waiting(api.keys.ann), await waiting(api.keys.ann, { fields: { priority: 9 } })];
  const { id: entering } = await api.task(api.keys.ann);
  const { id: child } = await api.task(api.keys.ann, { depends_on: [a] });
  const queue = await get(api.keys.ann);
  expect(queue.made_at).toBeNull();
  expect(ids(queue)).toEqual([urgent, a, entering, child]);
  expect(queue.items[2]).toMatchObject({ step: null, model: null, reason: '3rd: is about to enter the line' });
});

test('entries stand in the order of their predicted starts, with times, intervals and a reason [SCHED-22]', async () => {
  const [a, b, late] = [await waiting(api.keys.ann), await waiting(api.keys.ann, { model: 'qwen3:14b' }), await waiting(api.keys.ann)];
  await forecast(
    entry(b, { key: 'qwen3:14b~ctx4096', why: 'quantum', other: 'llama3.2:latest~ctx4096', left_ms: 10_400 }),
    entry(a, { start_ms: null, done_ms: null, start_low_ms: null }),
  );
  const queue = await get(api.keys.ann);
  expect(queue).toMatchObject({ total: 3, next_cursor: null, made_at: '2030-01-01T00:00:00.000Z', pauses: [], running: [], changes: [] });
  expect(ids(queue)).toEqual([b, a, late]);
  expect(queue.items[0]).toEqual({
    task_id: b,
    name: 'ollama-inference',
    template: 'ollama-inference',
    user_id: 'ann',
    status: 'queued',
    status_detail: 'waiting_model',
    priority: 5,
    exact: 50,
    arrival: 2,
    position: 1,
    step: 'ollama_generate',
    model: 'qwen3:14b',
    host: 'gpu-1',
    waiting_since: expect.any(String),
    estimated_start_time: '2030-01-01T00:01:00.000Z',
    estimated_start_interval: ['2030-01-01T00:00:50.000Z', '2030-01-01T00:01:20.000Z'],
    estimated_completion_time: '2030-01-01T00:02:30.000Z',
    estimated_completion_interval: ['2030-01-01T00:01:40.000Z', '2030-01-01T00:03:20.000Z'],
    reason: '1st: waits for qwen3:14b, which is loaded when llama3.2:latest has served 11 s more',
  });
  expect(queue.items[1]).toMatchObject({ position: 2, estimated_start_time: null, estimated_start_interval: null, estimated_completion_time: null });
  expect(queue.items[2]).toMatchObject({
    position: 3,
    host: null,
    estimated_start_time: null,
    reason: '3rd: waits for llama3.2:latest, which will be loaded',
  });
});

test('of others’ tasks a user sees place, model and priority, an administrator everything [SCHED-22, SEC-03]', async () => {
  const [foreign, mine] = [await waiting(api.keys.bob, { fields: { priority: 8 } }), await waiting(api.keys.ann)];
  await forecast(entry(foreign), entry(mine));
  for (const key of [api.keys.ann, api.keys.viewer]) {
    const queue = await get(key);
    expect(ids(queue)).toEqual([null, mine]);
    const shown = Object.entries(queue.items[0] as QueueEntryView).filter(([, value]) => value !== null);
    expect(Object.fromEntries(shown)).toEqual({ position: 1, model: 'llama3.2:latest', priority: 8 });
    expect(JSON.stringify(queue)).not.toContain(foreign);
    for (const query of ['?user=bob', '?status_detail=waiting_slot']) expect(ids(await get(key, query))).toEqual([]);
    expect(await get(key, '?user=ann')).toMatchObject({ total: 1, items: [{ task_id: mine, position: 2 }] });
  }
  expect(ids(await get(api.keys.admin))).toEqual([foreign, mine]);
});

test('filters choose by model, alias of spelling, user, pool and reason; places stay those among everything [SCHED-22]', async () => {
  const [a, b, held] = [await waiting(api.keys.ann), await waiting(api.keys.bob, { model: 'qwen3:14b' }), await waiting(api.keys.ann)];
  await post(api.keys.ann, `/tasks/${held}/hold`);
  const all = async (query: string) => (await get(api.keys.admin, query)).items.map(({ task_id: id, position }) => [id, position]);
  expect(await all('')).toEqual([
    [a, 1],
    [b, 2],
    [held, 3],
  ]);
  expect(await all('?model=qwen3:14b')).toEqual([[b, 2]]);
  expect(await all('?model=LLAMA3.2')).toEqual([
    [a, 1],
    [held, 3],
  ]);
  expect(await all('?user=bob&user=eve')).toEqual([[b, 2]]);
  expect(await all('?pool=general')).toEqual([]);
  expect(await all('?status_detail=held')).toEqual([[held, 3]]);
  expect(await all('?model=a%20b')).toEqual([]);
});

test('a move, a hold and a pause are seen by the next look, before there is a new forecast [SCHED-22]', async () => {
  const [a, b, c] = [await waiting(api.keys.ann), await waiting(api.keys.ann), await waiting(api.keys.ann)];
  await writeForecast(api.database.sql, new Date(), [entry(a), entry(b), entry(c)]);
  const seen = await get(api.keys.ann);
  expect((await post(api.keys.ann, '/queue/reorder', { task_id: c, before: a, version: seen.version })).status).toBe(200);
  const moved = await get(api.keys.ann);
  expect(ids(moved)).toEqual([c, a, b]);
  expect(moved.version).toBeGreaterThan(seen.version);
  expect(moved.items[0]?.estimated_start_time).toBeNull();
  await post(api.keys.ann, `/tasks/${a}/hold`);
  const held = await get(api.keys.ann);
  expect(ids(held)).toEqual([c, b, a]);
  expect(held.items[2]).toMatchObject({ status_detail: 'held', reason: '3rd: is held until it is released', estimated_start_time: null });
  await post(api.keys.admin, '/queue/pauses', { model: 'llama3.2', reason: 'new version' });
  const paused = await get(api.keys.ann);
  expect(paused.pauses).toMatchObject([{ scope: 'model', name: 'llama3.2:latest', by: null, reason: 'new version' }]);
  expect(paused.items.map(({ reason }) => reason)).toEqual([
    '1st: waits, since llama3.2:latest is paused: new version',
    '2nd: waits, since llama3.2:latest is paused: new version',
    '3rd: is held until it is released',
  ]);
  expect((await get(api.keys.admin)).pauses).toMatchObject([{ by: 'root' }]);
});

test('what runs and which models a host changes are shown with it, of others only that they are [SCHED-22]', async () => {
  const run = async (key: string) => {
    const id = await waiting(key);
    await api.database.sql`
      update line set state = 'running', grant_id = gen_random_uuid(), claim_token = gen_random_uuid(), host = 'gpu-1', host_epoch = 1, started_at = now(),
        slot = (select count(*) from line where state = 'running') + 1 where task_id = ${id}`;
    await api.database.sql`update tasks set status = 'running' where id = ${id}`;
    return id;
  };
  const mine = await run(api.keys.ann);
  await run(api.keys.bob);
  await api.database
    .sql`insert into task_events (task_id, kind, data) values (${mine}, 'progress', '{"step": "ollama_generate", "attempt": 1, "phase": "tokens", "done": 7}')`;
  await api.database.sql`
    insert into residency_orders (host, host_epoch, unload, load_key, load_model, load_num_ctx, reason) values ('gpu-1', 1, '{a:latest~ctx4096}', 'b:latest~ctx4096', 'b:latest', 4096, 'b:latest~ctx4096 waits')`;
  await forecast(entry(mine, { position: null, why: null, start_ms: -5_000 }));
  const queue = await get(api.keys.ann);
  expect(queue.items).toEqual([]);
  expect(queue.running).toEqual([
    {
      task_id: mine,
      name: 'ollama-inference',
      priority: 5,
      step: 'ollama_generate',
      model: 'llama3.2:latest',
      host: 'gpu-1',
      started_at: expect.any(String),
      progress: { phase: 'tokens', done: 7, total: null },
      estimated_completion_time: '2030-01-01T00:02:30.000Z',
    },
    {
      task_id: null,
      name: null,
      priority: 5,
      step: null,
      model: 'llama3.2:latest',
      host: 'gpu-1',
      started_at: null,
      progress: null,
      estimated_completion_time: null,
    },
  ]);
  expect(queue.changes).toEqual([{ host: 'gpu-1', load: 'b:latest', pull: null, unload: ['a:latest'], reason: 'b:latest waits', since: expect.any(String) }]);
  expect((await get(api.keys.admin)).changes[0]?.reason).toBe('b:latest waits');
});

describe('pages', () => {
  test('follow each other without a gap while entries leave, and end [SCHED-22]', async () => {
    const all: string[] = [];
    for (let n = 0; n < 7; n += 1) all.push(await waiting(api.keys.ann));
    const end = (id: string | undefined) => api.database.sql`update line set state = 'void', cause = 'x' where task_id = ${id ?? ''}`;
    const first = await get(api.keys.ann, '?limit=3');
    expect([ids(first), first.total]).toEqual([all.slice(0, 3), 7]);
    for (const id of all.slice(0, 2)) {
      await end(id);
      await api.database.sql`update tasks set status = 'running' where id = ${id}`;
    }
    await new Promise((resolve) => setImmediate(resolve));
    const second = await get(api.keys.ann, `?limit=3&cursor=${first.next_cursor}`);
    expect(ids(second)).toEqual(all.slice(3, 6));
    const third = await get(api.keys.ann, `?limit=3&cursor=${second.next_cursor}`);
    expect([ids(third), third.next_cursor]).toEqual([all.slice(6), null]);
  });

  test('a cursor tells nothing of others’ tasks, and pages on as well [SCHED-22, SEC-03]', async () => {
    const foreign = [await waiting(api.keys.bob), await waiting(api.keys.bob)];
    const mine = await waiting(api.keys.ann);
    const first = await get(api.keys.ann, '?limit=2');
    const text = Buffer.from(first.next_cursor ?? '', 'base64url').toString('latin1');
    for (const secret of [...foreign, 'ollama_generate']) expect(text).not.toContain(secret);
    expect(ids(await get(api.keys.ann, `?limit=2&cursor=${first.next_cursor}`))).toEqual([mine]);
  });

  test('a cursor of another list, another caller or another text is refused [bad-11]', async () => {
    for (let n = 0; n < 2; n += 1) await waiting(api.keys.ann);
    const { next_cursor: cursor } = await get(api.keys.ann, '?limit=1');
    const forged = (text: string) =>
      Buffer.from(
        createHash('sha256')
          .update(`${JSON.stringify(['ann', 'user', [], [], [], [], [], [], []])}\0${text}`)
          .digest('base64url')
          .slice(0, 16) + text,
      ).toString('base64url');
    expect((await get(api.keys.ann, `?limit=1&cursor=${forged('[1,2,[]]')}`)).items).toHaveLength(1);
    for (const [key, query] of [
      ...['[', '[1]', '[-1,2,[]]', '[1,2,[7]]', '{}', ''].map((text) => [api.keys.ann, `cursor=${forged(text)}`] as const),
      [api.keys.ann, `cursor=${cursor}&pool=model`],
      [api.keys.bob, `cursor=${cursor}`],
      [api.keys.ann, 'cursor=x'],
      [api.keys.ann, 'limit=0'],
      [api.keys.ann, 'limit=501'],
      [api.keys.ann, 'pool=gpu'],
      [api.keys.ann, 'sort=name'],
    ] as const) {
      const answer = await api.request(key, 'GET', `/api/v1/queue?${query}`);
      expect([query, answer.status]).toEqual([query, 422]);
    }
  });
});

test('ten thousand that wait are shown page by page, each once, and what people do to their order is seen at once [SCHED-22, PERF-03]', async () => {
  const { id } = await api.task(api.keys.ann);
  await api.database.sql`
    with made as (
      insert into tasks (id, name, type, priority, user_id, template, template_hash, plan, parameters)
      select gen_random_uuid(), 'many', type, 10 * (1 + n % 10), user_id, template, template_hash, plan, parameters from tasks, generate_series(1, 9999) n where id = ${id}
      returning id, priority, priority_level, pos)
    insert into line (task_id, attempt, step, try, step_attempt, run_id, pool, key, level, exact, pos)
    select id, 1, 'ollama_generate', 1, 1, 'run', 'model', 'm' || (pos::bigint % 100) || ':latest~ctx4096', priority_level, priority, pos from made`;
  await api.database.sql`analyze tasks, line`;
  const rows = await api.database.sql`select task_id::text as id from line order by random()`;
  await writeForecast(
    api.database.sql,
    new Date(),
    rows.map((each) => entry(each['id'] as string)),
  );
  const found = new Set<string | null>();
  let cursor: string | null = null;
  do {
    const page: QueueView = await get(api.keys.ann, `?limit=500${cursor === null ? '' : `&cursor=${cursor}`}`);
    for (const each of ids(page)) found.add(each);
    expect(page.total).toBe(10_000);
    cursor = page.next_cursor;
  } while (cursor !== null);
  expect(found.size).toBe(10_000);

  const [first, second] = ids(await get(api.keys.ann, '?limit=2')) as [string, string];
  const [last, before] = rows.toReversed().map((each) => each['id'] as string) as [string, string];
  expect((await post(api.keys.ann, '/queue/reorder', { task_id: last, before })).status).toBe(200);
  for (const task of [first, second]) expect((await post(api.keys.ann, `/tasks/${task}/hold`)).status).toBe(200);
  const held = await get(api.keys.ann, '?status_detail=held');
  expect([held.total, new Set(ids(held))]).toEqual([2, new Set([first, second])]);
  expect(held.items.map(({ position }) => position)).toEqual([9_999, 10_000]);
  await post(api.keys.ann, `/tasks/${second}/release`);
  expect(await get(api.keys.ann, '?status_detail=held')).toMatchObject({ total: 1, items: [{ task_id: first, position: 10_000 }] });
});
