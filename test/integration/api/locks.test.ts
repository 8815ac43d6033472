import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { LockListView } from '../../../contract/schemas/holds.js';
import { acquireLock, configurePools, tellShares } from '../../../db/holds.js';
import { sealCursor } from '../../../service/page-cursor.js';
import { type ApiUnderTest, apiUnderTest } from './api-under-test.js';

let api: ApiUnderTest;
beforeAll(async () => {
  api = await apiUnderTest();
});
afterAll(async () => api.stop());

const call = async (key: string, method: string, url: string, body?: unknown) => {
  const answer = await api.request(key, method, `/api/v1${url}`, body);
  return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
};
/** A task that nothing runs, stored as running. */
async function runningTask(key: string): Promise<string> {
  const { id } = await api.task(key);
  await api.database.sql`update tasks set status = 'running', started_at = now() where id = ${id}`;
  return id;
}
const take = (key: string, name: string, taskId: string, wait?: boolean) =>
  call(key, 'POST', `/locks/${name}`, { task_id: taskId, ...(wait === undefined ? {} : { wait }) });

describe('locks', () => {
  test('a running task takes a lock, another one is told who has it, and who waits is shown [CONC-01, CONC-02]', async () => {
    const [mine, other, foreign] = [await runningTask(api.keys.ann), await runningTask(api.keys.ann), await runningTask(api.keys.bob)];
    expect(await take(api.keys.ann, 'deploy', mine)).toEqual({ status: 200, body: { name: 'deploy', acquired: true, holder: mine } });
    expect(await take(api.keys.ann, 'deploy', other, true)).toEqual({ status: 200, body: { name: 'deploy', acquired: false, holder: mine } });
    expect(await take(api.keys.bob, 'deploy', foreign)).toEqual({ status: 200, body: { name: 'deploy', acquired: false, holder: null } });
    expect((await call(api.keys.ann, 'GET', '/locks')).body).toEqual({
      items: [{ name: 'deploy', task_id: mine, acquired_at: expect.any(String), until: 'released', waiting: [other] }],
      next_cursor: null,
    });
    expect((await call(api.keys.bob, 'GET', '/locks')).body).toMatchObject({ items: [{ name: 'deploy', task_id: null, waiting: [] }] });
    expect(await call(api.keys.ann, 'DELETE', `/locks/deploy/${other}`)).toEqual({ status: 200, body: { name: 'deploy', released: false } });
    expect(await call(api.keys.ann, 'DELETE', `/locks/deploy/${mine}`)).toEqual({ status: 200, body: { name: 'deploy', released: true } });
    expect((await take(api.keys.ann, 'deploy', other)).body).toMatchObject({ acquired: true });
  });

  test('pages of locks follow each other, each with its own end, and a cursor of another list is refused [CONC-01, bad-11]', async () => {
    const { sql } = api.database;
    const id = await runningTask(api.keys.ann);
    const names = Array.from({ length: 7 }, (_, n) => `page-${n}`);
    for (const name of names) await sql`insert into holds (name, task_id, attempt) values (${name}, ${id}, 1)`;
    const all: unknown[] = [];
    for (let query = '?limit=3'; query !== ''; ) {
      const { items, next_cursor: cursor } = (await call(api.keys.ann, 'GET', `/locks${query}`)).body as unknown as LockListView;
      expect(items.length).toBeLessThanOrEqual(3);
      all.push(...items.map(({ name }) => name));
      query = cursor === null ? '' : `?limit=3&cursor=${cursor}`;
    }
    expect(all).toEqual(((await call(api.keys.ann, 'GET', '/locks')).body as unknown as LockListView).items.map(({ name }) => name));
    expect(all).toEqual(expect.arrayContaining(names));

    const { next_cursor: foreign } = (await call(api.keys.bob, 'GET', '/locks?limit=1')).body;
    const scope = JSON.stringify(['locks', 'ann', 'user']);
    for (const cursor of ['forged', foreign, sealCursor('a\0b', scope), sealCursor('a', JSON.stringify(['tasks', 'ann', 'user']))])
      expect(await call(api.keys.ann, 'GET', `/locks?cursor=${String(cursor)}`)).toMatchObject({ status: 422, body: { code: 'invalid_request' } });
    // whoever makes a cursor sees no more than without one
    expect((await call(api.keys.ann, 'GET', `/locks?cursor=${sealCursor('page-5', scope)}`)).body).toMatchObject({
      items: [{ name: 'page-6' }],
      next_cursor: null,
    });
    for (const query of ['limit=0', 'limit=501', 'limit=x', 'cursor=', 'page=2']) expect((await call(api.keys.ann, 'GET', `/locks?${query}`)).status).toBe(422);
    await sql`delete from holds where task_id = ${id}`;
  });

  test('whoever may not see a task neither takes nor gives back for it [CONC-01, SEC-05]', async () => {
    const mine = await runningTask(api.keys.ann);
    for (const id of [mine, '00000000-0000-4000-8000-000000000000', 'no id'])
      for (const answer of [await take(api.keys.bob, 'x', id), await call(api.keys.bob, 'DELETE', `/locks/x/${encodeURIComponent(id)}`)])
        expect(answer).toMatchObject({ status: 404, body: { code: 'task_not_found' } });
  });

  test('only a running task takes locks, and not more than twenty [CONC-01]', async () => {
    const queued = await api.task(api.keys.ann);
    expect(await take(api.keys.ann, 'y', queued.id)).toMatchObject({ status: 409, body: { code: 'task_not_running' } });
    const id = await runningTask(api.keys.ann);
    for (let n = 0; n < 20; n += 1) await acquireLock(api.database.sql, `l${n}`, id, { owner: null, wait: false, locksMax: 20 });
    expect(await take(api.keys.ann, 'y', id)).toMatchObject({ status: 409, body: { code: 'too_many_locks' } });
  });

  test.each(['a%20b', 'agent:bob', '-x', 'a%2fb', 'x'.repeat(101)])('%s is the name of no lock', async (name) => {
    const id = await runningTask(api.keys.ann);
    expect(await take(api.keys.ann, name, id)).toMatchObject({ status: 422, body: { code: 'invalid_request' } });
    expect(await call(api.keys.ann, 'DELETE', `/locks/${name}/${id}`)).toMatchObject({ status: 422, body: { code: 'invalid_request' } });
  });
});

describe('resources', () => {
  beforeEach(async () => {
    await configurePools(api.database.sql, { licences: 3 });
    await tellShares(api.database.sql, 'machine', [
      { pool: 'cpu', total: 8, used: 1.5 },
      { pool: 'gpu', total: 0, used: null },
    ]);
  });
  const withNeeds = (needs: object) => ({ template: 'ollama-inference', parameters: { model: 'llama3.2', prompt: 'x' }, resource_requirements: needs });

  test('every pool is shown with what there is, what tasks hold and what is in use [CONC-09]', async () => {
    const { id } = await api.task(api.keys.ann, { resource_requirements: { cpu_cores: 2, resources: { licences: 1 } } });
    await api.database.sql`insert into allocations (task_id, attempt, pool, amount) values (${id}, 1, 'cpu', 2)`;
    const shown = { pool: 'cpu', unit: 'cores', total: 8, allocated: 2, used: 1.5, source: 'machines', tasks: [{ task_id: id, amount: 2 }], waiting: 0 };
    const { items } = (await call(api.keys.ann, 'GET', '/resources')).body as { items: unknown[] };
    expect(items).toEqual([
      shown,
      { pool: 'gpu', unit: 'cards', total: 0, allocated: 0, used: null, source: 'machines', tasks: [], waiting: 0 },
      { pool: 'licences', unit: 'units', total: 3, allocated: 0, used: null, source: 'configuration', tasks: [], waiting: 0 },
    ]);
    expect((await call(api.keys.bob, 'GET', '/resources')).body).toMatchObject({ items: [{ ...shown, tasks: [] }, {}, {}] });
    await api.database.sql`delete from allocations`;
  });

  test('a task that asks for more than there is, or for a pool that is not there, is refused however it is created [CONC-07, SCHED-12]', async () => {
    const asked = withNeeds({ cpu_cores: 9, gpu_count: 1, resources: { licences: 3, rockets: 1 } });
    const refused = {
      status: 422,
      body: { code: 'resources_exceeded', errors: [{ message: expect.stringContaining('8') }, { got: '1' }, { message: 'There is no pool "rockets".' }] },
    };
    expect(await call(api.keys.ann, 'POST', '/tasks', asked)).toMatchObject(refused);
    expect(await call(api.keys.ann, 'POST', '/tasks?dry_run=true', asked)).toMatchObject(refused);
    expect(await call(api.keys.ann, 'POST', '/tasks/batch', { tasks: [asked, withNeeds({ cpu_cores: 8, resources: { licences: 3 } })] })).toMatchObject({
      status: 200,
      body: { created: 1, refused: 1, items: [{ problem: { code: 'resources_exceeded' } }, { outcome: 'created' }] },
    });
    const { id } = await api.task(api.keys.ann, { resource_requirements: { resources: { licences: 3 } } });
    await configurePools(api.database.sql, { licences: 2 });
    expect(await call(api.keys.ann, 'POST', `/tasks/${id}/replay`, {})).toMatchObject({ status: 422, body: { code: 'resources_exceeded' } });
  });

  test.each([
    { cpu_cores: 0.05 },
    { memory_gb: 0 },
    { gpu_count: 0.5 },
    { locks: ['a', 'a'] },
    { locks: ['agent:x'] },
    { locks: Array.from({ length: 21 }, (_, n) => `l${n}`) },
    { resources: { Big: 1 } },
    { resources: { a: 0 } },
    { resources: { a: -1 } },
    { resources: { a: 1e10 } },
    { cpu_cores: 1, resources: { cpu: 1 } },
    { resources: Object.fromEntries(Array.from({ length: 21 }, (_, n) => [`p${n}`, 1])) },
  ])('%j is no requirement [SCHED-12, bad-11]', async (needs) => {
    expect(await call(api.keys.ann, 'POST', '/tasks', withNeeds(needs))).toMatchObject({ status: 422, body: { code: 'invalid_request' } });
  });
});
