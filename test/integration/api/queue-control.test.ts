import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { acquireHost, setHostReady } from '../../../db/leases.js';
import { type ApiUnderTest, apiUnderTest } from './api-under-test.js';

let api: ApiUnderTest;
beforeAll(async () => {
  api = await apiUnderTest();
});
afterAll(async () => api.stop());
beforeEach(async () => api.database.empty('tasks', 'queue_pauses', 'hosts'));

const call = async (key: string, method: string, url: string, body?: unknown) => {
  const answer = await api.request(key, method, `/api/v1${url}`, body);
  return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
};
/** Moves; a move that is refused has its preview refused alike. */
const reorder = async (key: string, move: object) => {
  const preview = await call(key, 'POST', '/queue/reorder/preview', move);
  const moved = await call(key, 'POST', '/queue/reorder', move);
  expect([preview.status, preview.body['code']]).toEqual([moved.status, moved.body['code']]);
  return moved;
};
const problem = (status: number, code: string) => ({ status, body: { code } });
const end = (id: string) => api.database.sql`update tasks set status = 'failed', completed_at = now() where id = ${id}`;

describe('reorder', () => {
  test('a task takes the other one’s priority and stands beside it [SCHED-22]', async () => {
    const [first, second, low] = [await api.task(api.keys.ann), await api.task(api.keys.ann), await api.task(api.keys.ann, { priority: 2 })];
    const moved = await reorder(api.keys.ann, { task_id: low.id, before: second.id });
    expect(moved).toMatchObject({ status: 200, body: { task: { id: low.id, priority: 5, queue_position: 2 } } });
    const { version } = moved.body;
    expect(await reorder(api.keys.ann, { task_id: `task-${low.id}`, after: second.id, version })).toMatchObject({
      status: 200,
      body: { task: { queue_position: 3 } },
    });
    expect(await reorder(api.keys.ann, { task_id: first.id, after: low.id, version })).toMatchObject(problem(409, 'queue_changed'));
    expect(await reorder(api.keys.admin, { task_id: first.id, after: low.id })).toMatchObject({ status: 200, body: { task: { queue_position: 3 } } });
  });

  test('what does not wait is not moved, and nothing is moved beside it [SCHED-22]', async () => {
    const [waits, ended, running] = [await api.task(api.keys.ann), await api.task(api.keys.ann), await api.task(api.keys.ann)];
    await end(ended.id);
    await api.database.sql`update tasks set status = 'running', started_at = now() where id = ${running.id}`;
    expect(await reorder(api.keys.ann, { task_id: ended.id, after: waits.id })).toMatchObject(problem(409, 'task_finished'));
    expect(await reorder(api.keys.ann, { task_id: running.id, after: waits.id })).toMatchObject(problem(409, 'task_started'));
    for (const { id } of [ended, running]) expect(await reorder(api.keys.ann, { task_id: waits.id, before: id })).toMatchObject(problem(409, 'neighbour_gone'));
  });

  test('a user moves own tasks beside own tasks, and not before others of the highest priority that came first [SCHED-22, SEC-03]', async () => {
    const top = await api.task(api.keys.ann, { priority: 10 });
    const foreign = await api.task(api.keys.bob, { priority: 10 });
    const mine = await api.task(api.keys.ann);
    for (const move of [
      { task_id: foreign.id, before: mine.id },
      { task_id: mine.id, before: foreign.id },
      { task_id: mine.id, before: randomUUID() },
      { task_id: 'none', before: mine.id },
      { task_id: mine.id, after: 'none' },
    ])
      expect(await reorder(api.keys.ann, move)).toMatchObject(problem(404, 'task_not_found'));
    expect(await reorder(api.keys.ann, { task_id: mine.id, after: top.id })).toMatchObject(problem(409, 'overtakes_others'));
    expect((await reorder(api.keys.admin, { task_id: mine.id, after: top.id })).status).toBe(200);
    expect(await reorder(api.keys.viewer, { task_id: mine.id, after: top.id })).toMatchObject(problem(403, 'forbidden'));
  });

  test('a preview tells whose start a move would change, by name only to the owner, and moves nothing [SCHED-22, DASH-02]', async () => {
    const { sql } = api.database;
    const epoch = await acquireHost(sql, { host: 'gpu-1', address: 'http://127.0.0.1:1', parallel: 1 });
    await setHostReady(sql, 'gpu-1', epoch, true, {}, { modelsMax: 1, roomBytes: null, budgetBytes: null, spillBytes: 0 });
    const key = 'llama3.2:latest~ctx4096';
    await sql`insert into residency (host, host_epoch, key, model, num_ctx, state, order_id) values ('gpu-1', ${epoch}, ${key}, 'llama3.2:latest', 4096, 'serving', gen_random_uuid())`;
    const tasks = [];
    for (const who of ['ann', 'bob', 'ann'] as const) {
      const { id } = await api.task(api.keys[who], { name: `of ${who}` });
      await sql`delete from line where task_id = ${id}`; // the first one was granted with its submit
      await sql`insert into line (task_id, attempt, step, try, step_attempt, run_id, pool, key, level, exact, pos)
        select id, 1, 'ollama_generate', 1, 1, 'run', 'model', ${key}, priority_level, priority, pos from tasks where id = ${id}`;
      tasks.push(id);
    }
    const [first = '', , last = ''] = tasks;
    const before = await call(api.keys.ann, 'GET', '/queue');
    const preview = await call(api.keys.ann, 'POST', '/queue/reorder/preview', { task_id: last, before: first });
    expect(preview).toMatchObject({ status: 200, body: { later: 2, sooner: 1 } });
    const items = preview.body['items'] as { task_id: string; start_before: string; start_after: string }[];
    expect(items.map(({ task_id }) => task_id).sort()).toEqual([first, last].sort());
    for (const { task_id, start_before, start_after } of items) expect(start_after < start_before).toBe(task_id === last);
    expect(await call(api.keys.ann, 'GET', '/queue')).toEqual(before);
    await reorder(api.keys.ann, { task_id: last, before: first });
    expect(((await call(api.keys.ann, 'GET', '/queue')).body['items'] as { task_id: string | null }[]).map(({ task_id }) => task_id)).toEqual([
      last,
      first,
      null,
    ]);
  });

  test('of the previews of one user that wait only the latest is made [SCHED-22, DASH-02]', async () => {
    const [first, second] = [await api.task(api.keys.ann), await api.task(api.keys.ann)];
    const theirs = [await api.task(api.keys.bob), await api.task(api.keys.bob)];
    const preview = (key: string, tasks: readonly { id: string }[]) =>
      call(key, 'POST', '/queue/reorder/preview', { task_id: tasks[1]?.id, before: tasks[0]?.id });
    const asked = await Promise.all([
      preview(api.keys.ann, [first, second]),
      preview(api.keys.ann, [first, second]),
      preview(api.keys.bob, theirs),
      preview(api.keys.ann, [first, second]),
      preview(api.keys.ann, [first, second]),
    ]);
    expect(asked.at(2)).toMatchObject({ status: 200 });
    expect(asked.at(-1)).toMatchObject({ status: 200 });
    expect(asked.slice(0, -1).filter(({ status }) => status !== 200)).toEqual(
      expect.arrayContaining([expect.objectContaining({ status: 409, body: expect.objectContaining({ code: 'superseded' }) })]),
    );
  });

  test.each([{}, { before: randomUUID(), after: randomUUID() }, { before: 7 }, { before: randomUUID(), version: -1 }, { before: randomUUID(), version: 1.5 }])(
    '%j is no place [bad-11]',
    async (place) => {
      const { id } = await api.task(api.keys.ann);
      expect(await reorder(api.keys.ann, { task_id: id, ...place })).toMatchObject(problem(422, 'invalid_request'));
      expect(await reorder(api.keys.ann, { task_id: id, after: id })).toMatchObject(problem(422, 'invalid_request'));
    },
  );
});

describe('hold', () => {
  test('a held task says so until it is released, with an event for each, however often it is asked for [SCHED-22]', async () => {
    const { id } = await api.task(api.keys.ann);
    for (const _time of [1, 2])
      expect(await call(api.keys.ann, 'POST', `/tasks/${id}/hold`)).toMatchObject({ status: 200, body: { id, status_detail: 'held' } });
    for (const _time of [1, 2])
      expect(await call(api.keys.admin, 'POST', `/tasks/${id}/release`)).toMatchObject({ status: 200, body: { status_detail: null } });
    const answer = await api.request(api.keys.ann, 'GET', `/api/v1/tasks/${id}/events`, undefined, { Accept: 'application/json' });
    expect(((await answer.json()) as { items: unknown[] }).items).toMatchObject([
      { kind: 'queued' },
      { kind: 'held', data: { by: 'ann' } },
      { kind: 'released', data: { by: 'root' } },
    ]);
  });

  test.each(['hold', 'release'])('%s: nobody does it to another one’s task, nor to one that has ended [SEC-03]', async (action) => {
    const { id } = await api.task(api.keys.ann);
    for (const other of [id, randomUUID(), 'none'])
      expect(await call(api.keys.bob, 'POST', `/tasks/${other}/${action}`)).toMatchObject(problem(404, 'task_not_found'));
    expect(await call(api.keys.viewer, 'POST', `/tasks/${id}/${action}`)).toMatchObject(problem(403, 'forbidden'));
    await end(id);
    expect(await call(api.keys.ann, 'POST', `/tasks/${id}/${action}`)).toMatchObject(problem(409, 'task_finished'));
  });
});

describe('pauses', () => {
  test('the queue, a host and a model are paused with a reason, and resumed, however often it is asked for [SCHED-22]', async () => {
    await acquireHost(api.database.sql, { host: 'gpu-1', address: 'http://127.0.0.1:1', parallel: 1 });
    const pause = (body: object) => call(api.keys.admin, 'POST', '/queue/pauses', body);
    const [queue, host, model] = [
      { scope: 'queue', name: null, by: 'root', reason: null, at: expect.any(String) },
      { scope: 'host', name: 'gpu-1', by: 'root', reason: 'new fan', at: expect.any(String) },
      { scope: 'model', name: 'llama3.2:latest', by: 'root', reason: 'new version', at: expect.any(String) },
    ];
    expect(await pause({})).toEqual({ status: 200, body: { items: [queue] } });
    expect(await pause({ host: 'gpu-1', reason: 'new fan' })).toEqual({ status: 200, body: { items: [queue, host] } });
    await pause({ model: 'llama3.2', reason: 'soon' });
    await pause({ model: 'LLAMA3.2', reason: 'new version' });
    await pause({ model: 'llama3.2' });
    expect(await call(api.keys.admin, 'GET', '/queue/pauses')).toEqual({ status: 200, body: { items: [queue, host, model] } });
    const resume = (query: string) => call(api.keys.admin, 'DELETE', `/queue/pauses${query}`);
    for (const _time of [1, 2]) expect(await resume('?model=llama3.2:latest')).toEqual({ status: 200, body: { items: [queue, host] } });
    expect(await resume('')).toEqual({ status: 200, body: { items: [host] } });
    expect(await resume('?host=gpu-1')).toEqual({ status: 200, body: { items: [] } });
    const audit = await api.database.sql`select action, user_id from audit_log where action like 'queue_%' order by id`;
    expect(audit.map(({ action }) => action as string)).toEqual([...Array(3).fill('queue_paused'), ...Array(3).fill('queue_resumed')]);
  });

  test('only administrators pause and resume [SEC-03]', async () => {
    for (const key of [api.keys.ann, api.keys.viewer])
      for (const method of ['GET', 'POST', 'DELETE'])
        expect(await call(key, method, '/queue/pauses', method === 'POST' ? {} : undefined)).toMatchObject(problem(403, 'forbidden'));
  });

  test('what is not there, or two things at once, is not paused', async () => {
    const pause = (body: object) => call(api.keys.admin, 'POST', '/queue/pauses', body);
    expect(await pause({ host: 'nowhere' })).toMatchObject(problem(404, 'unknown_host'));
    expect(await pause({ model: 'a b' })).toMatchObject(problem(422, 'model_refused'));
    for (const body of [{ host: 'a', model: 'b' }, { host: '\u0007' }, { reason: '' }, { reason: 'a\nb' }, { scope: 'queue' }])
      expect(await pause(body)).toMatchObject(problem(422, 'invalid_request'));
    for (const query of ['host=a&model=b', 'host=%00', 'all=true'])
      expect(await call(api.keys.admin, 'DELETE', `/queue/pauses?${query}`)).toMatchObject(problem(422, 'invalid_request'));
    expect(await call(api.keys.admin, 'DELETE', '/queue/pauses?model=a%20b')).toMatchObject(problem(422, 'model_refused'));
  });
});
