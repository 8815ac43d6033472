import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { EventView } from '../../../contract/schemas/event.js';
import { runCommand, type Sent } from './run-command.js';

const id = '8f14e45f-ceea-467f-a0e6-7c1f9d2b3a44';
const hostile = '\u001b]52;c;cm0=\u0007';
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'orchestra-commands-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const written = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};
const refusal = (status: number, code: string) =>
  Response.json({ code, status, detail: `It is ${code}.` }, { status, headers: { 'content-type': 'application/problem+json' } });

test('the demonstration sends the key of the home folder to no other machine, and the key that is named where it is told to [MGR-10]', async () => {
  written('admin.key', 'of-the-administrator');
  const away = await runCommand(['--api', 'http://models.example.invalid', 'demo'], { env: { ORCHESTRA_HOME: folder, ORCHESTRA_KEY: '' } });
  expect(away).toMatchObject({ code: 4, mains: [], err: expect.stringContaining('is not sent') });
  const nobody = await runCommand(['demo'], { env: { ORCHESTRA_API: '', ORCHESTRA_HOME: '/nowhere' } });
  expect(nobody).toMatchObject({ code: 4, mains: [], err: expect.stringContaining('orchestra up') });

  const answer = ({ path }: Sent) => (path === '/models' ? { items: [] } : {});
  const named = await runCommand(['--api', 'API', '--key', written('key', 'of-somebody'), 'demo', '--model', 'm'], { answer });
  const [[main, run, client, options] = []] = named.mains as [string, string, { baseUrl: string }, object][];
  expect([main, run, client?.baseUrl, options]).toEqual([
    'demo',
    'runDemo',
    expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/),
    expect.objectContaining({ model: 'm' }),
  ]);
});

const event = (n: number, kind: string, data: EventView['data']): EventView => ({ id: `1.${n}`, task_id: id, at: '2026-01-09T10:32:00.000Z', kind, data });
const happened = [
  event(1, 'started', {}),
  event(2, 'output', { step: 's', attempt: 1, stream: 'text', text: `A queue keeps${hostile}` }),
  event(3, 'progress', { step: 's', attempt: 1, phase: 'generating', done: 2, total: 9 }),
  event(4, 'output', { step: 's', attempt: 1, stream: 'text', text: ' order.' }),
  event(5, 'completed', { status: 'completed' }),
];
const shownOutput = 'A queue keeps\\x1b]52;c;cm0=\\x07 order.';
const task = { id, status: 'completed', template: 't', parameters: { text: 'x' }, result: { text: hostile }, error: null };

function api({ method, path, query }: Sent): unknown {
  if (path.endsWith('/events') && query.get('limit') === null) {
    const stream = happened.map((each) => `id: ${each.id}\nevent: ${each.kind}\ndata: ${JSON.stringify(each)}\n\n`).join('');
    return new Response(stream, { headers: { 'content-type': 'text/event-stream' } });
  }
  if (path.endsWith('/events')) return { items: query.get('after') === null ? happened : [], next: '1.5' };
  if (path.startsWith('/templates/')) return { name: 't', parameters: [{ name: 'text', type: 'string', required: true }] };
  return method === 'POST' && path === '/tasks' ? { ...task, status: 'queued' } : task;
}

test.each([
  ['logs', id],
  ['logs', '-o', id],
  ['logs', '--follow', id],
  ['logs', '--follow', '-o', id],
  ['submit', 't', '-p', 'text=x', '--follow'],
])('%s %s %s %s: what a model writes reaches a file as it was written, whatever is told between its pieces [MGR-10]', async (...args) => {
  const ran = await runCommand(args, { answer: api });
  expect(ran).toMatchObject({ code: 0, out: shownOutput });
  if (args.includes('-o')) expect(ran.err).not.toContain('generating');
  else expect(ran.err).toContain('generating 2/9');
});

test('a task is submitted with metadata and an agent, and metadata that are no JSON object are refused [MGR-10]', async () => {
  const ran = await runCommand(['submit', 't', '-p', 'text=x', '--metadata={"team":"docs"}', '--agent=ann/writer'], { answer: api });
  expect(ran.sent.at(-1)).toMatchObject({ method: 'POST', path: '/tasks', body: { metadata: { team: 'docs' }, agent_assigned: 'ann/writer' } });
  for (const text of ['[1]', 'null', '{', '"x"']) {
    const refused = await runCommand(['submit', 't', '-p', 'text=x', `--metadata=${text}`], { answer: api });
    expect(refused).toMatchObject({ code: 2 });
    expect(refused.err).toContain('no JSON object');
  }
});

test('on a terminal the open line ends before something else is told [MGR-10]', async () => {
  const ran = await runCommand(['logs', id], { answer: api, terminal: true });
  expect(ran.out).toBe(shownOutput);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the colours of the terminal
  expect(ran.err.replace(/\u001b\[\d+m/g, '')).toBe('10:32:00 started\n\n10:32:00 s generating 2/9\n\n10:32:00 completed completed\n');
});

test('--json with --follow is one event a line and then the task, and what a terminal would obey is escaped [MGR-10]', async () => {
  for (const args of [
    ['--json', 'logs', '--follow', id],
    ['--json', 'submit', 't', '-p', 'text=x', '--follow'],
  ]) {
    const { out } = await runCommand(args, { answer: api });
    expect(
      out
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as unknown),
      args.join(' '),
    ).toEqual([...happened, task]);
    expect(out).not.toContain('\u001b');
  }
  const stored = await runCommand(['--json', 'logs', id], { answer: api });
  expect(
    stored.out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown),
  ).toEqual(happened);
  expect(stored.out).not.toContain('\u001b');
  const only = await runCommand(['--json', 'logs', '-o', id], { answer: api });
  expect(only.out.trimEnd().split('\n')).toHaveLength(2);
});

test('a report cannot steer the terminal, and reaches a file as it is [MGR-10]', async () => {
  const csv = `id,name\r\n1,é${hostile}\r\n`;
  const answer = () => new Response(csv, { headers: { 'content-type': 'text/csv' } });
  expect((await runCommand(['report'], { answer, terminal: true })).out).toBe('id,name\n1,é\\x1b]52;c;cm0=\\x07\n');
  expect((await runCommand(['report'], { answer })).out).toBe(csv);
});

const bulk = (outcomes: readonly string[]) => ({
  action: 'cancel',
  dry_run: false,
  matched: outcomes.length,
  changed: outcomes.filter((outcome) => outcome === 'cancelled').length,
  skipped: 0,
  remaining: 0,
  items: outcomes.map((outcome) => ({ id, outcome })),
});

test('what filters name is bounded by the newest task there was when the question was asked [MGR-10]', async () => {
  const answer = ({ path }: Sent) => (path === '/tasks' ? { items: [{ ...task, created_at: '2026-01-09T10:30:00.500Z' }], total: 1 } : bulk(['cancelled']));
  const { sent, code } = await runCommand(['cancel', '--status', 'queued', '--yes'], { answer });
  expect(code).toBe(0);
  const asked = sent.filter(({ path }) => path === '/tasks/bulk').map(({ body }) => body);
  const filter = { status: ['queued'], created_before: '2026-01-09T10:30:00.501Z' };
  expect(asked).toEqual([
    { action: 'cancel', filter, dry_run: true },
    { action: 'cancel', filter },
  ]);
});

test.each([
  [['not_found'], 3],
  [['not_found', 'not_found'], 3],
  [['cancelled', 'not_found'], 1],
  [['finished'], 1],
  [['cancelled'], 0],
])('a change whose outcomes are %j has the exit code %i [MGR-10]', async (outcomes, code) => {
  expect(await runCommand(['cancel', id], { answer: () => bulk(outcomes) })).toMatchObject({ code });
});

test('a batch is lines, an array, or the body of a request; what is no task is refused with its place [MGR-10]', async () => {
  const first = { template: 't', parameters: { text: 'one' } };
  const second = { template: 't', parameters: { text: 'two' } };
  const answer = () => ({ created: 2, existing: 0, refused: 0, items: [] });
  for (const text of [
    `${JSON.stringify(first)}\n\n${JSON.stringify(second)}\n`,
    JSON.stringify([first, second]),
    JSON.stringify({ tasks: [first, second] }, null, 2),
  ]) {
    const ran = await runCommand(['batch', written('tasks', text)], { answer });
    expect(ran).toMatchObject({ code: 0, sent: [{ path: '/tasks/batch', body: { tasks: [first, second] } }] });
  }
  const one = await runCommand(['batch', written('tasks', JSON.stringify(first, null, 2))], { answer });
  expect(one.sent).toMatchObject([{ body: { tasks: [first] } }]);
  for (const [text, place] of [
    ['null', 'line 1'],
    [`${JSON.stringify(first)}\n7\n`, 'line 2'],
    [JSON.stringify([first, null]), 'item 2'],
    ['{"tasks":[[]]}', 'item 1'],
  ] as const) {
    const ran = await runCommand(['batch', written('tasks', text)], { answer });
    expect(ran, text).toMatchObject({ code: 2, sent: [], err: expect.stringContaining(`${place}, has to hold one JSON object`) });
  }
});

test('a replay leaves out only a parameter that the task or the template has [TASK-18]', async () => {
  const wrong = await runCommand(['replay', id, '--without', 'txt'], { answer: api });
  expect(wrong).toMatchObject({ code: 2, err: expect.stringContaining('such a parameter; there are text') });
  expect(wrong.sent.filter(({ method }) => method === 'POST')).toEqual([]);
  const right = await runCommand(['replay', id, '--without', 'text'], { answer: api });
  expect(right.sent.at(-1)).toMatchObject({ path: `/tasks/${id}/replay`, body: { parameters: { text: null } } });
  expect(
    await runCommand(['replay', id, '--without', 'text'], { answer: ({ path }) => (path.startsWith('/tasks/') ? refusal(404, 'task_not_found') : {}) }),
  ).toMatchObject({
    code: 3,
  });
});

test('locks are shown all of them, however many pages they fill [MGR-10, CONC-01]', async () => {
  const lock = (name: string) => ({ name, task_id: null, acquired_at: '2026-01-09T10:32:00.000Z', until: 'end', waiting: [] });
  const answer = ({ query }: Sent) =>
    query.get('cursor') === 'next' ? { items: [lock('b')], next_cursor: null } : { items: [lock('a')], next_cursor: 'next' };
  const shown = await runCommand(['locks'], { answer });
  expect(shown.out.split('\n').map((line) => line.split('\t')[0])).toEqual(['a', 'b', '']);
  expect(JSON.parse((await runCommand(['--json', 'locks'], { answer })).out)).toEqual({ items: [lock('a'), lock('b')], next_cursor: null });
});
