import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import type { EventListView, EventView } from '../../../contract/schemas/event.js';
import { adoptEvents } from '../../../db/events.js';
import { type Frame, framesOf, takeEvents } from '../../support/read-events.js';
import { eventually } from '../../support/servers.js';
import { createApp } from '../../../api/app.js';
import { serveDashboard } from '../../../dashboard/serve-dashboard.js';
import { type ApiUnderTest, apiConfig, apiUnderTest, silent } from './api-under-test.js';

let api: ApiUnderTest;
beforeAll(async () => {
  api = await apiUnderTest();
});
afterAll(async () => api.stop());

/** Opens a stream; it is let go at the end of the test. */
async function open(key: string, url: string, headers: Record<string, string> = {}): Promise<{ answer: Response; frames: AsyncGenerator<Frame> }> {
  const answer = await api.request(key, 'GET', url, undefined, headers);
  const frames = framesOf(answer);
  onTestFinished(async () => void (await frames.return(undefined)));
  return { answer, frames };
}
const list = async (key: string, url: string) =>
  (await (await api.request(key, 'GET', url, undefined, { Accept: 'application/json' })).json()) as EventListView;
const note = (taskId: string, kind: string, data: object = {}) =>
  api.database.sql`insert into task_events (task_id, kind, data) values (${taskId}, ${kind}, ${api.database.sql.json(data as never)})`;
const end = async (taskId: string) => {
  await api.database.sql.begin(async (tx) => {
    await tx`update tasks set status = 'completed', started_at = now(), completed_at = now(), result = '{"steps":{}}' where id = ${taskId}`;
    await tx`insert into task_events (task_id, kind) values (${taskId}, 'completed')`;
  });
};

test('the stream of a task is the stored list, tells what comes as it comes, and ends with the task [TASK-21]', async () => {
  const task = await api.task(api.keys.ann);
  await api.request(api.keys.ann, 'PATCH', `/api/v1/tasks/${task.id}/priority`, { priority: 9 });
  const { answer, frames } = await open(api.keys.ann, `/api/v1/tasks/${task.id}/events`);
  expect(answer.headers.get('content-type')).toContain('text/event-stream');
  expect(answer.headers.get('x-accel-buffering')).toBe('no');
  expect(answer.headers.get('cache-control')).toBe('no-store');
  const seen = await takeEvents(frames, 2);
  expect(seen.map(({ kind }) => kind)).toEqual(['queued', 'priority_changed']);
  await note(task.id, 'output', { stream: 'text', text: 'two\nlines and \u2028 more\r\n\r\nevent: forged\n\n' });
  seen.push(...(await takeEvents(frames, 1)));
  await end(task.id);
  seen.push(...(await takeEvents(frames, 100)));
  expect(seen.map(({ kind }) => kind)).toEqual(['queued', 'priority_changed', 'output', 'completed']);
  const stored = await list(api.keys.ann, `/api/v1/tasks/${task.id}/events`);
  expect(stored.items).toEqual(seen);
  expect(stored.next).toBe(seen.at(-1)?.id);
});

test('a reader that goes on behind any event gets exactly the rest, and nothing more after the end [TASK-21]', async () => {
  const task = await api.task(api.keys.ann);
  for (let count = 0; count < 5; count += 1) await note(task.id, 'progress', { done: count });
  await end(task.id);
  const { items } = await list(api.keys.ann, `/api/v1/tasks/${task.id}/events`);
  for (const [index, { id }] of items.entries()) {
    const { answer, frames } = await open(api.keys.ann, `/api/v1/tasks/${task.id}/events`, { 'Last-Event-ID': id });
    const named = await open(api.keys.ann, `/api/v1/tasks/${task.id}/events?after=${id}`); // a page cannot set a header
    const both = await open(api.keys.ann, `/api/v1/tasks/${task.id}/events?after=0.0`, { 'Last-Event-ID': id });
    if (index === items.length - 1) expect([answer.status, named.answer.status, both.answer.status]).toEqual([204, 204, 204]);
    else for (const each of [frames, named.frames, both.frames]) expect(await takeEvents(each, 100)).toEqual(items.slice(index + 1));
  }
  for (const after of ['', 'x', '1.2.3', '99999999999999999999.1', '9999999999999999999.1'])
    expect((await api.request(api.keys.ann, 'GET', `/api/v1/tasks/${task.id}/events?after=${after}`)).status).toBe(422);
});

test('an event that commits late is neither passed over nor told twice, although its number is lower [TASK-21]', async () => {
  const [early, late] = [await api.task(api.keys.ann), await api.task(api.keys.ann)];
  const { frames } = await open(api.keys.ann, `/api/v1/events?task_id=${early.id}&task_id=${late.id}&kind=progress`);
  await frames.next();
  let commit: () => void = () => {};
  const held = new Promise<void>((resolve) => (commit = resolve));
  const slow = api.database.sql.begin(async (tx) => {
    await tx`insert into task_events (task_id, kind, data) values (${late.id}, 'progress', '{"n":"slow"}')`;
    await held;
  });
  await eventually(
    async () => (await api.database.sql`select 1 from pg_stat_activity where state = 'idle in transaction' and query like '%slow%'`).length === 1,
  );
  await note(early.id, 'progress', { n: 'fast' });
  commit();
  await slow;
  await note(early.id, 'progress', { n: 'last' });
  expect((await takeEvents(frames, 3)).map(({ data }) => data['n'])).toEqual(['slow', 'fast', 'last']);
});

test('a reader of everything sees its own tasks only, an administrator those of everybody [TASK-21, bad-52]', async () => {
  const own = await open(api.keys.bob, '/api/v1/events');
  const all = await open(api.keys.admin, '/api/v1/events?kind=queued');
  await Promise.all([own.frames.next(), all.frames.next()]);
  const theirs = await api.task(api.keys.ann);
  const mine = await api.task(api.keys.bob);
  expect((await takeEvents(own.frames, 1)).map(({ task_id }) => task_id)).toEqual([mine.id]);
  expect((await takeEvents(all.frames, 2)).map(({ task_id }) => task_id)).toEqual([theirs.id, mine.id]);
  expect((await api.request(api.keys.bob, 'GET', `/api/v1/tasks/${theirs.id}/events`)).status).toBe(404);
  expect((await list(api.keys.bob, '/api/v1/events?limit=500')).items.map(({ task_id }) => task_id)).not.toContain(theirs.id);
});

test.each(['x', '1', '1.', '.1', '-1.2', '1.2.3', '99999999999999999999.1', '1.2\u{1f600}', `${'9'.repeat(51)}`])(
  'Last-Event-ID %j is refused [bad-52]',
  async (id) => {
    const header = { 'Last-Event-ID': encodeURIComponent(id) };
    const task = await api.task(api.keys.ann);
    for (const url of ['/api/v1/events', `/api/v1/tasks/${task.id}/events`]) {
      expect(await (await api.request(api.keys.ann, 'GET', url, undefined, header)).json()).toMatchObject({ status: 422, code: 'invalid_request' });
    }
  },
);

test('an id from the future waits for what comes after it, and unknown names in the query are refused, a key among them [bad-52]', async () => {
  const task = await api.task(api.keys.ann);
  const { frames } = await open(api.keys.ann, `/api/v1/tasks/${task.id}/events`, { 'Last-Event-ID': '9223372036854775807.1' });
  expect((await frames.next()).value).toMatchObject({ data: null });
  await end(task.id);
  expect((await api.request(null, 'GET', `/api/v1/events?key=${api.keys.ann}`)).status).toBe(401);
  expect((await api.request(api.keys.ann, 'GET', `/api/v1/events?api_key=${api.keys.ann}`)).status).toBe(422);
  expect((await api.request(api.keys.ann, 'GET', '/api/v1/events?kind=a%0Ab')).status).toBe(422);
});

test('a key has so many streams and no more, and one that is let go makes room, a thousand times over [bad-52]', async () => {
  const streams = await Promise.all(Array.from({ length: 5 }, () => api.request(api.keys.viewer, 'GET', '/api/v1/events')));
  const refused = await api.request(api.keys.viewer, 'GET', '/api/v1/events');
  expect(refused.status).toBe(429);
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
  expect(await refused.json()).toMatchObject({ code: 'too_many_streams' });
  for (const stream of streams) await stream.body?.cancel();
  for (let count = 0; count < 1_000; count += 1) {
    const answer = await eventually(async () => {
      const again = await api.request(api.keys.viewer, 'GET', '/api/v1/events');
      if (again.status !== 200) throw new Error(`stream ${count}: ${again.status}`);
      return again;
    });
    await answer.body?.cancel();
  }
});

test('a user has so many streams however often they sign in, and one that is let go makes room [bad-52]', async () => {
  await api.services.createUser({ userId: 'root', role: 'admin', keyId: 'x' }, { id: 'dora', role: 'user', password: 'correct horse battery' });
  const follow = async () => {
    const { token } = await api.services.signIn({ kind: 'password', user: 'dora', password: 'correct horse battery' });
    return api.request(null, 'GET', '/api/v1/events', undefined, { Cookie: `orchestra_session=${token}` });
  };
  const streams = [];
  for (let count = 0; count < 5; count += 1) streams.push(await follow());
  expect(streams.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200]);
  expect((await follow()).status).toBe(429);
  await streams[0]?.body?.cancel();
  streams.push(
    await eventually(async () => {
      const again = await follow();
      if (again.status !== 200) throw new Error(`${again.status}`);
      return again;
    }),
  );
  for (const stream of streams.slice(1)) await stream.body?.cancel();
});

test('HEAD takes no stream from a key: nobody would ever give it back [bad-52]', async () => {
  const task = await api.task(api.keys.bob);
  for (const url of ['/api/v1/events', `/api/v1/tasks/${task.id}/events`]) {
    for (let count = 0; count < 6; count += 1) {
      const head = await api.request(api.keys.bob, 'HEAD', url);
      expect([head.status, head.headers.get('content-type'), await head.text()]).toEqual([200, 'text/event-stream; charset=utf-8', '']);
    }
  }
  const served = createApp({ services: api.services, log: silent, config: apiConfig });
  serveDashboard(served);
  for (let count = 0; count < 6; count += 1) {
    const head = await served.request('/live?topics=queue', { method: 'HEAD', headers: { 'X-API-Key': api.keys.bob } });
    expect([head.status, head.headers.get('content-type'), await head.text()]).toEqual([200, 'text/event-stream', '']);
  }
  const { answer } = await open(api.keys.bob, '/api/v1/events');
  expect(answer.status).toBe(200);
});

test('events that a restore brought from a cluster with higher numbers are seen again after they were adopted [TASK-21]', async () => {
  const task = await api.task(api.keys.ann);
  await api.database.sql`update task_events set txid = 4611686018427387904 where task_id = ${task.id}`;
  expect((await list(api.keys.ann, `/api/v1/tasks/${task.id}/events`)).items).toEqual([]);
  expect(await adoptEvents(api.database.sql)).toBeGreaterThan(0);
  await note(task.id, 'progress');
  expect((await list(api.keys.ann, `/api/v1/tasks/${task.id}/events`)).items.map(({ kind }) => kind)).toEqual(['queued', 'progress']);
});

test('a reader that is far behind gets everything in order without a gap [TASK-21]', async () => {
  const task = await api.task(api.keys.ann);
  await api.database
    .sql`insert into task_events (task_id, kind, data) select ${task.id}, 'progress', jsonb_build_object('n', n) from generate_series(1, 3000) n`;
  const { frames } = await open(api.keys.ann, `/api/v1/tasks/${task.id}/events`);
  const first = await takeEvents(frames, 10);
  await api.database
    .sql`insert into task_events (task_id, kind, data) select ${task.id}, 'progress', jsonb_build_object('n', n) from generate_series(3001, 9000) n`;
  await end(task.id);
  const rest: EventView[] = await takeEvents(frames, 100_000);
  const numbers = [...first, ...rest].filter(({ kind }) => kind === 'progress').map(({ data }) => data['n']);
  expect(numbers).toEqual(Array.from({ length: 9_000 }, (_, index) => index + 1));
  expect(rest.at(-1)?.kind).toBe('completed');
});
