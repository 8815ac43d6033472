import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createClient, type Client } from '../../../client/client.js';
import { ApiProblem, ApiUnreachable } from '../../../client/problem.js';

interface Seen {
  readonly method: string;
  readonly url: URL;
  readonly headers: Headers;
  readonly body: unknown;
}

/** A client whose requests end in a function, and what it has sent. */
function clientOf(answer: (seen: Seen, count: number) => Response | Promise<Response>) {
  const sent: Seen[] = [];
  const send = async (input: unknown, init: RequestInit = {}) => {
    const seen = {
      method: init.method ?? 'GET',
      url: new URL(String(input)),
      headers: new Headers(init.headers),
      body: typeof init.body === 'string' ? JSON.parse(init.body) : undefined,
    };
    sent.push(seen);
    return answer(seen, sent.length);
  };
  return { client: createClient({ baseUrl: 'http://host/base/', apiKey: 'secret', fetch: send as typeof fetch }), sent };
}

const refusal = (status: number, code: string, headers: Record<string, string> = {}) =>
  Response.json({ type: 'about:blank', title: code, status, code, detail: `It is ${code}.`, request_id: 'r-1' }, { status, headers });

/** Operations that are no part of the library: keys are made where the product runs, sessions are for browsers, and machines read the rest. */
const elsewhere = ['GET /healthz', 'GET /readyz', 'GET /metrics', 'POST /api/v1/sessions', 'DELETE /api/v1/sessions/current'];

test('every operation of the API has its method', async () => {
  const { paths } = JSON.parse(readFileSync(join(import.meta.dirname, '../../../openapi.json'), 'utf8')) as { paths: Record<string, Record<string, unknown>> };
  const wanted = Object.entries(paths).flatMap(([path, operations]) => Object.keys(operations).map((method) => `${method.toUpperCase()} ${path}`));
  const { client, sent } = clientOf(() => Response.json({ items: [], next_cursor: null, status: 'completed' }));
  const calls: ((c: Client) => unknown)[] = [
    ({ tasks }) => tasks.create({ template: 't', parameters: {} }),
    ({ tasks }) => tasks.preview({ template: 't', parameters: {} }),
    ({ tasks }) => tasks.get('ID'),
    ({ tasks }) => tasks.listPage(),
    ({ tasks }) => tasks.cancel('ID'),
    ({ tasks }) => tasks.retry('ID'),
    ({ tasks }) => tasks.replay('ID'),
    ({ tasks }) => tasks.setPriority('ID', 3),
    ({ tasks }) => tasks.executions('ID'),
    ({ tasks }) => tasks.steps('ID'),
    ({ tasks }) => tasks.relations('ID'),
    ({ tasks }) => tasks.addDependency('ID', { task_id: 'ID' }),
    ({ tasks }) => tasks.removeDependency('ID', 'ID'),
    ({ tasks }) => tasks.batch([]),
    ({ tasks }) => tasks.bulk({ action: 'cancel', ids: [] }),
    ({ tasks }) => tasks.eventPage('ID'),
    (c) => c.eventPage(),
    ({ templates }) => templates.list(),
    ({ templates }) => templates.get('ID'),
    ({ templates }) => templates.docs('ID'),
    ({ templates }) => templates.schema(),
    ({ templates }) => templates.validate('name: x'),
    ({ models }) => models.list(),
    ({ models }) => models.load('ID'),
    ({ models }) => models.unload('ID'),
    ({ models }) => models.pull('ID'),
    ({ models }) => models.order('ID'),
    ({ reports }) => reports.tasks(),
    ({ reports }) => reports.trends(),
    ({ reports }) => reports.errors(),
    ({ checkpoints }) => checkpoints.create(),
    ({ checkpoints }) => checkpoints.list(),
    ({ checkpoints }) => checkpoints.get(1),
    ({ checkpoints }) => checkpoints.restore(1),
    ({ tasks }) => tasks.hold('ID'),
    ({ tasks }) => tasks.release('ID'),
    ({ queue }) => queue.get({ model: ['m'] }),
    ({ queue }) => queue.reorder({ task_id: 'ID', before: 'ID' }),
    ({ queue }) => queue.previewReorder({ task_id: 'ID', before: 'ID' }),
    ({ models }) => models.timeline({ past_minutes: 5 }),
    ({ queue }) => queue.decisions({ task_id: 'ID' }),
    ({ queue }) => queue.pauses(),
    ({ queue }) => queue.pause(),
    ({ queue }) => queue.resume({ host: 'local' }),
    ({ locks }) => locks.list(),
    ({ locks }) => locks.acquire('ID', 'ID', { wait: true }),
    ({ locks }) => locks.release('ID', 'ID'),
    ({ users }) => users.list(),
    ({ users }) => users.create({ id: 'ann', role: 'user', password: 'correct horse' }),
    ({ users }) => users.change('ID', { role: 'viewer' }),
    ({ users }) => users.remove('ID'),
    ({ users }) => users.changeOwnPassword({ present: 'correct horse', new: 'battery staple' }),
    (c) => c.caller(),
    (c) => c.signInTicket(),
    (c) => c.resources(),
    (c) => c.resourceUsage({ minutes: 60 }),
    (c) => c.alerts(),
    (c) => c.system(),
    ({ reports }) => reports.performance(),
    (c) => c.config(),
    (c) => c.health(),
  ];
  for (const call of calls) await call(client);
  const matches = (operation: string) => {
    const [method, path = ''] = operation.split(' ');
    const shape = new RegExp(`^/base${path.replace(/\{[^}]+\}/g, '[^/]+')}$`);
    return sent.some((seen) => seen.method === method && shape.test(seen.url.pathname));
  };
  expect(wanted.filter((operation) => !elsewhere.includes(operation) && !matches(operation))).toEqual([]);
});

test('names keep to their part of the path, filters repeat their name, and the key goes in its header', async () => {
  const { client, sent } = clientOf(() => Response.json({ items: [], next_cursor: null }));
  await client.models.load('org/model:7b', { host: 'h' });
  await client.tasks.listPage({ status: ['queued', 'running'], limit: 5 });
  expect(sent[0]?.url.pathname).toBe('/base/api/v1/models/org%2Fmodel%3A7b/load');
  expect(sent[0]?.body).toEqual({ host: 'h' });
  expect(sent[1]?.url.search).toBe('?status=queued&status=running&limit=5');
  expect(sent[1]?.headers.get('authorization')).toBe('Bearer secret');
});

test('creating is repeated under one key when the server says not now', async () => {
  const { client, sent } = clientOf((_seen, count) =>
    count < 3 ? refusal(503, 'unavailable', { 'retry-after': '0' }) : Response.json({ id: 'x' }, { status: 201 }),
  );
  await expect(client.tasks.create({ template: 't', parameters: {} })).resolves.toEqual({ id: 'x' });
  const keys = sent.map(({ headers }) => headers.get('idempotency-key'));
  expect(keys).toHaveLength(3);
  expect(new Set(keys).size).toBe(1);
});

test('what is not safe to do twice is done once', async () => {
  const { client, sent } = clientOf(() => refusal(503, 'unavailable', { 'retry-after': '0' }));
  await expect(client.tasks.retry('x')).rejects.toMatchObject({ code: 'unavailable', retryAfterSeconds: 0, requestId: 'r-1' });
  await expect(client.tasks.batch([{ template: 't', parameters: {} }])).rejects.toBeInstanceOf(ApiProblem);
  expect(sent).toHaveLength(2);
});

test('an answer of something else is told as such', async () => {
  const { client } = clientOf(() => new Response('<html>proxy', { status: 404 }));
  await expect(client.tasks.get('x')).rejects.toMatchObject({ code: 'unexpected_answer', status: 404 });
  const page = clientOf(() => new Response('<html>login'));
  await expect(page.client.tasks.get('x')).rejects.toMatchObject({ code: 'unexpected_answer', status: 200 });
  const { client: gone } = clientOf(() => Promise.reject(Object.assign(new TypeError('fetch failed'), { cause: { code: 'ECONNREFUSED' } })));
  await expect(gone.tasks.retry('x')).rejects.toThrow(new ApiUnreachable('http://host/base', 'does not answer (ECONNREFUSED)'));
});

test('a list goes through every page', async () => {
  const { client, sent } = clientOf(({ url }) =>
    Response.json(url.searchParams.has('cursor') ? { items: [{ id: 'c' }], next_cursor: null } : { items: [{ id: 'a' }, { id: 'b' }], next_cursor: 'n' }),
  );
  const ids: string[] = [];
  for await (const { id } of client.tasks.list()) ids.push(id);
  expect(ids).toEqual(['a', 'b', 'c']);
  expect(sent[1]?.url.searchParams.get('cursor')).toBe('n');
});

test('a broken stream goes on behind the last event, and ends with the task', async () => {
  const event = (id: string, kind: string) => `id: ${id}\nevent: ${kind}\ndata: ${JSON.stringify({ id, kind, data: {} })}\n\n`;
  const stream = (...parts: string[]) => new Response(parts.join(''), { headers: { 'content-type': 'text/event-stream' } });
  const { client, sent } = clientOf((_seen, count) =>
    count === 1 ? stream('retry: 1\n\n', event('1', 'queued')) : stream(event('2', 'started'), event('3', 'completed')),
  );
  const kinds: string[] = [];
  for await (const { kind } of client.tasks.events('x')) kinds.push(kind);
  expect(kinds).toEqual(['queued', 'started', 'completed']);
  expect(sent.map(({ headers }) => headers.get('last-event-id'))).toEqual([null, '1']);
});

test('a signal ends what waits', async () => {
  const { client } = clientOf(() => refusal(503, 'unavailable', { 'retry-after': '20' }));
  await expect(client.tasks.get('x', { signal: AbortSignal.timeout(50) })).rejects.toMatchObject({ name: 'TimeoutError' });
});
