import { createHash } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { TaskView } from '../../../contract/schemas/task.js';
import { createApp } from '../../../api/app.js';
import { createServices } from '../../../service/services.js';
import { type ApiUnderTest, apiConfig, apiUnderTest, silent } from './api-under-test.js';

interface Page {
  readonly items: TaskView[];
  readonly next_cursor: string | null;
  readonly total: number;
}

let api: ApiUnderTest;
beforeAll(async () => {
  api = await apiUnderTest();
  // All at the same microsecond in groups of ten, so that pages end between tasks of one time.
  await api.database.sql`
    insert into tasks (name, type, template, template_hash, plan, user_id, priority, status, created_at, completed_at)
    select 'seed', t.template, t.template, 'h', '{}', case when n % 4 = 0 then 'bob' else 'ann' end, 10 * (1 + n % 10),
      (array['queued', 'running', 'completed', 'failed', 'cancelled'])[1 + n % 5], timestamptz '2026-01-01 00:00:00.123456+00' + (n / 10) * interval '1 second',
      case when n % 5 >= 2 then timestamptz '2026-01-01 00:00:10.123456+00' + (n / 10) * interval '1 second' end
    from generate_series(0, 199) as n, lateral (select case when n % 3 = 0 then 'alpha' else 'beta' end as template) t`;
});
afterAll(async () => api.stop());

async function list(who: string, query = ''): Promise<Page> {
  const answer = await api.request(who, 'GET', `/api/v1/tasks${query}`);
  if (answer.status !== 200) throw new Error(await answer.text());
  return (await answer.json()) as Page;
}

async function walk(who: string, query: string, between: () => Promise<unknown> = async () => {}): Promise<TaskView[]> {
  const items: TaskView[] = [];
  for (let cursor: string | null = ''; cursor !== null; ) {
    const page: Page = await list(who, `?${query}${cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`}`);
    items.push(...page.items);
    cursor = page.next_cursor;
    await between();
  }
  return items;
}

test('without filters the newest 50 come, and the number of all [TASK-08]', async () => {
  const page = await list(api.keys.admin);
  expect(page.items).toHaveLength(50);
  expect(page.total).toBe(200);
  expect(page.next_cursor).not.toBeNull();
  const times = page.items.map((task) => task.created_at);
  expect(times).toEqual(times.toSorted().reverse());
});

test('each filter alone and all together give exactly what fits [TASK-08, C2]', async () => {
  const all = await walk(api.keys.admin, 'limit=500');
  expect(all).toHaveLength(200);
  const cases: [query: string, fits: (task: TaskView) => boolean][] = [
    ['status=queued', (task) => task.status === 'queued'],
    ['status=pending', (task) => task.status === 'queued'],
    ['status=created', (task) => task.status === 'queued'],
    ['status=waiting', () => false],
    ['status=in_progress', (task) => task.status === 'running'],
    ['status=failed&status=cancelled', (task) => task.status === 'failed' || task.status === 'cancelled'],
    ['template=alpha', (task) => task.template === 'alpha'],
    ['template=alpha&template=beta', () => true],
    ['type=beta', (task) => task.type === 'beta'],
    ['priority=1&priority=10', (task) => task.priority === 1 || task.priority === 10],
    ['user_id=bob', (task) => task.user_id === 'bob'],
    ['created_after=2026-01-01T00:00:05Z', (task) => task.created_at > '2026-01-01T00:00:05'],
    ['created_before=2026-01-01T00:00:05Z', (task) => task.created_at < '2026-01-01T00:00:05'],
    ['ended_after=2026-01-01T00:00:15Z', (task) => (task.completed_at ?? '') > '2026-01-01T00:00:15'],
    ['ended_before=2026-01-01T00:00:15Z', (task) => task.completed_at !== null && task.completed_at < '2026-01-01T00:00:15'],
    [
      'status=completed&template=beta&priority=3&user_id=ann&created_before=2026-01-01T00:00:15Z',
      (task) =>
        task.status === 'completed' && task.template === 'beta' && task.priority === 3 && task.user_id === 'ann' && task.created_at < '2026-01-01T00:00:15',
    ],
  ];
  for (const [query, fits] of cases) {
    const page = await list(api.keys.admin, `?limit=500&${query}`);
    const wanted = all.filter(fits).map((task) => task.id);
    expect(
      page.items.map((task) => task.id),
      query,
    ).toEqual(wanted);
    expect(page.total, query).toBe(wanted.length);
  }
});

test('a user sees the own tasks only, whatever is asked for [TASK-08]', async () => {
  const own = await walk(api.keys.bob, 'limit=100');
  expect(own).toHaveLength(50);
  expect(new Set(own.map((task) => task.user_id))).toEqual(new Set(['bob']));
  expect((await list(api.keys.bob, '?user_id=ann')).total).toBe(0);
});

test('pages give each task once, also while others arrive [TASK-08]', async () => {
  const before = (await walk(api.keys.ann, 'limit=500')).map((task) => task.id);
  const walked = await walk(api.keys.ann, 'limit=7', () => api.task(api.keys.ann));
  expect(walked.map((task) => task.id).slice(-before.length)).toEqual(before);
  expect(new Set(walked.map((task) => task.id)).size).toBe(walked.length);
});

test('a cursor of another user, of other filters, or with a change is refused [bad-17]', async () => {
  const { next_cursor: cursor } = await list(api.keys.ann, '?limit=5');
  const text = encodeURIComponent(cursor ?? '');
  const bent = Buffer.from(
    Buffer.from(cursor ?? '', 'base64url')
      .toString()
      .replace('2026', '2025'),
  ).toString('base64url');
  expect((await api.request(api.keys.bob, 'GET', `/api/v1/tasks?limit=5&cursor=${text}`)).status).toBe(422);
  expect((await api.request(api.keys.ann, 'GET', `/api/v1/tasks?limit=5&status=queued&cursor=${text}`)).status).toBe(422);
  expect((await api.request(api.keys.ann, 'GET', `/api/v1/tasks?limit=5&cursor=${bent}`)).status).toBe(422);
  expect((await api.request(api.keys.ann, 'GET', `/api/v1/tasks?limit=50&cursor=${text}`)).status).toBe(200);
});

test.each(["x'; drop table tasks; --", 'infinity', '2026-02-30T00:00:00.000000Z', '0000-01-01T00:00:00.000000Z', '2026-01-01T00:00:00.000000Z\0'])(
  'a cursor with the right checksum and the time %j is refused before PostgreSQL sees it [bad-17]',
  async (time) => {
    const filter = { statuses: [], templates: [], levels: [], types: [], userIds: [], createdAfter: null, createdBefore: null };
    const text = `0197a000-0000-7000-8000-000000000001${time}`;
    const sum = createHash('sha256')
      .update(`${JSON.stringify(['ann', filter])}\0${text}`)
      .digest('base64url')
      .slice(0, 16);
    const made = (of: string): string => Buffer.from(of).toString('base64url');
    expect((await api.request(api.keys.ann, 'GET', `/api/v1/tasks?cursor=${made(sum + text)}`)).status).toBe(422);
  },
);

test.each(['template=%00', 'type=a%00', 'user_id=%00', 'created_after=0000-01-01T00:00:00Z', 'created_before=0001-01-01T00:00:00%2B01:00'])(
  'a filter that PostgreSQL does not take, %s, is refused [bad-17]',
  async (query) => {
    expect((await api.request(api.keys.ann, 'GET', `/api/v1/tasks?${query}`)).status).toBe(422);
  },
);

test('pages of large tasks are shorter than asked for, so that no answer outgrows the memory, and still have every task once [bad-17]', async () => {
  const metadata = { note: 'x'.repeat(900_000) };
  const made = [];
  for (let left = 12; left > 0; left -= 1) made.push((await api.task(api.keys.bob, { metadata, priority: 2 })).id);
  const first = await list(api.keys.bob, '?limit=500&priority=2');
  expect(first.items.length).toBeLessThan(12);
  expect(first.total).toBe(12);
  expect((await walk(api.keys.bob, 'limit=500&priority=2')).map(({ id }) => id)).toEqual(made.toReversed());
});

test('queued tasks have places from 1 without gaps, by priority and then by arrival, in the list and alone alike', async () => {
  const all = (await walk(api.keys.admin, 'limit=500')).filter((task) => task.status === 'queued');
  const sorted = all.toSorted((a, b) => (a.queue_position ?? 0) - (b.queue_position ?? 0));
  expect(sorted.map((task) => task.queue_position)).toEqual(sorted.map((_, index) => index + 1));
  const levels = sorted.map((task) => task.priority);
  expect(levels).toEqual(levels.toSorted((a, b) => b - a));
  for (const task of [sorted[0], sorted[7], sorted.at(-1)]) {
    const alone = (await (await api.request(api.keys.admin, 'GET', `/api/v1/tasks/${task?.id}`)).json()) as TaskView;
    expect(alone).toEqual(task);
  }
});

test('two processes of the API answer alike, since neither keeps anything [TASK-13]', async () => {
  const other = createApp({ services: createServices(api.deps), log: silent, config: apiConfig });
  const task = await api.task(api.keys.ann, { priority: 9 });
  for (const url of [`/api/v1/tasks/${task.id}`, '/api/v1/tasks?limit=20', '/api/v1/tasks?status=queued']) {
    const [here, there] = [await api.request(api.keys.ann, 'GET', url), await other.request(url, { headers: { 'X-API-Key': api.keys.ann } })];
    expect(await there.json()).toEqual(await here.json());
  }
  const cursor = encodeURIComponent((await list(api.keys.ann, '?limit=3')).next_cursor ?? '');
  expect((await other.request(`/api/v1/tasks?limit=3&cursor=${cursor}`, { headers: { 'X-API-Key': api.keys.ann } })).status).toBe(200);
  expect((await other.request(`/api/v1/tasks/${task.id}`, { method: 'DELETE', headers: { 'X-API-Key': api.keys.ann } })).status).toBe(200);
  expect(await (await api.request(api.keys.ann, 'GET', `/api/v1/tasks/${task.id}`)).json()).toMatchObject({ status: 'cancelled' });
});

test('a status that there is not is answered with what came and with what may come [bad-2]', async () => {
  for (const [query, path, got] of [
    ['status=done', 'query.status[0]', '"done"'],
    ['status=queued&status=Running', 'query.status[1]', '"Running"'],
  ] as const) {
    const answer = await api.request(api.keys.ann, 'GET', `/api/v1/tasks?${query}`);
    expect(answer.status).toBe(422);
    const { detail, errors } = (await answer.json()) as { detail: string; errors: object[] };
    expect(detail).toMatch(new RegExp(`^query\\.status.+${got} is not one of .*queued, .*running, .*completed`));
    expect(errors).toEqual([{ path, expected: expect.stringContaining('completed'), got, message: expect.stringContaining(got) }]);
  }
});

test('a part of a name is found in upper and lower case alike, in any script, and signs of patterns mean themselves [TASK-08]', async () => {
  const given = ['Nightly ÜBERSICHT 100%', 'nightly übersicht a_b', 'ΝΥΧΤΑ nightly\\', 'something else'];
  for (const name of given) await api.task(api.keys.ann, { name });
  const found = async (name: string) => (await walk(api.keys.ann, `limit=500&name=${encodeURIComponent(name)}`)).map((task) => task.name).toSorted();
  const [one = '', two = '', three = ''] = given;
  expect(await found('NIGHTLY')).toEqual([one, two, three].toSorted());
  expect(await found('Übersicht')).toEqual([one, two].toSorted());
  expect(await found('νυχτ')).toEqual([three]);
  expect(await found('0%')).toEqual([one]);
  expect(await found('A_B')).toEqual([two]);
  expect(await found('LY\\')).toEqual([three]);
  expect(await found('%')).toEqual([one]);
  for (const limit of [2, 3, 4]) expect((await list(api.keys.ann, `?name=nightly&limit=${limit}`)).total).toBe(3);
  expect((await list(api.keys.ann, '?name=nothing-like-it')).total).toBe(0);
});
