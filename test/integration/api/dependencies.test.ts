import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { TaskView } from '../../../contract/schemas/task.js';
import { findCycle } from '../../../scheduling/dag.js';
import { type ApiUnderTest, apiUnderTest } from './api-under-test.js';

let api: ApiUnderTest;
beforeAll(async () => {
  api = await apiUnderTest();
});
afterAll(async () => api.stop());

interface Answered {
  readonly status: number;
  readonly body: TaskView & { code?: string; errors?: { path: string; got: string; message: string }[] };
}
const call = (key: string, method: string, url: string, body?: unknown): Promise<Answered> =>
  api.request(key, method, `/api/v1/tasks${url}`, body).then(async (answer) => ({ status: answer.status, body: (await answer.json()) as Answered['body'] }));
const add = (child: string, parent: string, key = api.keys.ann) => call(key, 'POST', `/${child}/dependencies`, { task_id: parent });
const remove = (child: string, parent: string, key = api.keys.ann) => call(key, 'DELETE', `/${child}/dependencies/${parent}`);
const events = async (id: string) =>
  (await api.database.sql<{ kind: string }[]>`select kind from task_events where task_id = ${id} order by id`).map(({ kind }) => kind);

test('a dependency is added once and removed once, and each is an event [TASK-20]', async () => {
  const [child, parent] = [await api.task(api.keys.ann), await api.task(api.keys.ann)];
  expect(await add(child.id, parent.id)).toMatchObject({
    status: 200,
    body: { depends_on: [parent.id], blocked_by: [parent.id], status_detail: 'waiting_dependency' },
  });
  expect(await add(child.id, `task-${parent.id.toUpperCase()}`)).toMatchObject({ status: 200, body: { depends_on: [parent.id] } });
  expect(await remove(child.id, parent.id)).toMatchObject({ status: 200, body: { depends_on: [], status_detail: null } });
  for (const absent of [parent.id, '00000000-0000-4000-8000-000000000000', 'no id at all'])
    expect(await remove(child.id, absent)).toMatchObject({ status: 200 });
  expect(await events(child.id)).toEqual(['queued', 'dependency_added', 'dependency_removed']);
});

test('a waiting step is held back by a dependency and let go when the last one is taken away [TASK-20, SCHED-07]', async () => {
  const [child, first, second] = [await api.task(api.keys.ann), await api.task(api.keys.ann), await api.task(api.keys.ann)];
  const { sql } = api.database;
  await sql`select line_enter(${child.id}, 1, 'run', 'run', 'ollama_generate', 1, 'model', 'm~ctx4096')`;
  const notBefore = async () => (await sql`select not_before::text as at from line where task_id = ${child.id}`)[0]?.['at'];
  expect(await notBefore()).toBe('-infinity');
  await add(child.id, first.id);
  await add(child.id, second.id);
  expect(await notBefore()).toBe('infinity');
  await remove(child.id, first.id);
  expect(await notBefore()).toBe('infinity');
  await remove(child.id, second.id);
  expect(await notBefore()).toBe('-infinity');
});

test('a task whose step was granted or that has ended keeps its dependencies [TASK-20]', async () => {
  const { sql } = api.database;
  const [granted, ended, parent] = [await api.task(api.keys.ann), await api.task(api.keys.ann), await api.task(api.keys.ann)];
  await sql`select line_enter(${granted.id}, 1, 'run', 'run', 'ollama_generate', 1, 'model', 'm~ctx4096')`;
  await sql`update line set state = 'granted', grant_id = gen_random_uuid(), host = 'h', host_epoch = 1, slot = 1 where task_id = ${granted.id}`;
  expect(await add(granted.id, parent.id)).toMatchObject({ status: 409, body: { code: 'task_started' } });
  await add(ended.id, parent.id);
  await sql`update tasks set status = 'running', started_at = now() where id = ${ended.id}`;
  expect(await remove(ended.id, parent.id)).toMatchObject({ status: 409, body: { code: 'task_started' } });
  expect(await add(ended.id, granted.id)).toMatchObject({ status: 409, body: { code: 'task_started' } });
});

test('itself, an id that is none, and a task of somebody else are refused alike [TASK-20, bad-14]', async () => {
  const [mine, theirs] = [await api.task(api.keys.ann), await api.task(api.keys.bob)];
  expect(await add(mine.id, mine.id)).toMatchObject({ status: 422, body: { code: 'invalid_dependency', errors: [{ path: 'task_id' }] } });
  expect(await add(mine.id, 'x')).toMatchObject({ status: 422, body: { code: 'invalid_dependency' } });
  const unknown = await add(mine.id, '00000000-0000-4000-8000-000000000000');
  const foreign = await add(mine.id, theirs.id);
  expect(foreign.status).toBe(422);
  expect(foreign.body.errors?.[0]?.message).toBe(unknown.body.errors?.[0]?.message);
  for (const answer of [await add(theirs.id, mine.id), await remove(theirs.id, mine.id), await remove(theirs.id, 'x')]) {
    expect(answer).toMatchObject({ status: 404, body: { code: 'task_not_found' } });
  }
  expect(await call(api.keys.ann, 'POST', `/${mine.id}/dependencies`, { task_id: mine.id, kind: 'data' })).toMatchObject({
    status: 422,
    body: { code: 'invalid_request' },
  });
  expect((await add(mine.id, theirs.id, api.keys.admin)).status).toBe(200);
});

test('a circle is refused and named in the order in which its tasks would wait [SCHED-06]', async () => {
  const [a, b, c] = [await api.task(api.keys.ann), await api.task(api.keys.ann), await api.task(api.keys.ann)];
  await add(b.id, a.id);
  await add(c.id, b.id);
  const refused = await add(a.id, c.id);
  expect(refused).toMatchObject({ status: 409, body: { code: 'dependency_cycle' } });
  const circle = refused.body.errors?.[0]?.got.split(' -> ') ?? [];
  expect(circle[0]).toBe(circle.at(-1));
  expect(new Set(circle)).toEqual(new Set([a.id, b.id, c.id]));
  const waitsFor = new Map([
    [a.id, c.id],
    [b.id, a.id],
    [c.id, b.id],
  ]);
  for (const [index, id] of circle.slice(0, -1).entries()) expect(circle[index + 1]).toBe(waitsFor.get(id));
});

test('of two that close a circle from both sides at once, one is refused [SCHED-06]', async () => {
  for (let round = 0; round < 10; round += 1) {
    const [a, b] = [await api.task(api.keys.ann), await api.task(api.keys.ann)];
    const statuses = await Promise.all([add(a.id, b.id), add(b.id, a.id)]).then((answers) => answers.map(({ status }) => status).sort());
    expect(statuses).toEqual([200, 409]);
  }
});

test('a chain of 9,000 is looked through, and its circle is told in part [SCHED-06]', async () => {
  const { sql } = api.database;
  const made = await sql<{ id: string }[]>`
    insert into tasks (name, type, user_id, template, template_hash, plan)
    select 'chain', 't', 'ann', 't', '', '{"steps":[]}' from generate_series(1, 9000) returning id`;
  const ids = made.map(({ id }) => id);
  await sql`
    insert into task_dependencies (parent_task_id, child_task_id)
    select p.id, c.id from unnest(${ids}::uuid[]) with ordinality p (id, n) join unnest(${ids}::uuid[]) with ordinality c (id, n) on c.n = p.n + 1`;
  const refused = await add(ids[0] as string, ids.at(-1) as string);
  expect(refused).toMatchObject({ status: 409, body: { code: 'dependency_cycle' } });
  expect(refused.body.errors?.[0]?.got).toContain('more)');
  await sql`delete from tasks where name = 'chain'`;
});

test('whatever is added in whatever order, what is accepted never holds a circle, and what is refused would have closed one [SCHED-06]', async () => {
  const tasks = await Promise.all(Array.from({ length: 6 }, () => api.task(api.keys.ann)));
  const anyEdges = fc.array(fc.tuple(fc.nat(5), fc.nat(5)), { maxLength: 15 });
  await fc.assert(
    fc.asyncProperty(anyEdges, async (edges) => {
      await api.database.sql`delete from task_dependencies where child_task_id = any(${tasks.map(({ id }) => id)}::uuid[])`;
      const accepted: { parent: string; child: string }[] = [];
      for (const [from, to] of edges.filter(([from, to]) => from !== to)) {
        const edge = { parent: tasks[from]?.id ?? '', child: tasks[to]?.id ?? '' };
        const closes = findCycle([...accepted, edge]) !== null;
        expect((await add(edge.child, edge.parent)).status).toBe(closes ? 409 : 200);
        if (!closes) accepted.push(edge);
      }
    }),
    { numRuns: 25 },
  );
});
