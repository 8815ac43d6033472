import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Installation, startInstallation } from '../support/installation.js';
import { eventually } from '../support/servers.js';

let orchestra: Installation;
let api: string;

beforeAll(async () => {
  const note = [
    'name: note',
    'parameters:',
    '  - { name: text, type: string, required: true }',
    'steps:',
    '  - { type: format_output, format: text, data: "{{text}}" }',
  ].join('\n');
  orchestra = await startInstallation({ templates: { note }, env: { MAX_WORKERS: '1' } });
  api = await orchestra.serve();
}, 180_000);
afterAll(() => orchestra?.stop());

/** The command line as a person starts it. */
function run(...args: readonly string[]): Promise<{ code: number; out: string; err: string }> {
  return new Promise((resolve) => {
    const env = { PATH: process.env['PATH'], ORCHESTRA_API: api, ORCHESTRA_KEY: orchestra.key };
    execFile(process.execPath, ['--import', 'tsx', join(import.meta.dirname, '../../cli/main.ts'), ...args], { env }, (error, out, err) =>
      resolve({ code: error === null ? 0 : Number(error.code ?? 1), out, err }),
    );
  });
}
const rows = (out: string) =>
  out
    .trim()
    .split('\n')
    .map((line) => line.split('\t'));
const shown = async () => rows((await run('queue')).out).map((cells) => cells[1]);

test('a paused queue is looked at, put into another order and resumed, and its steps start in the order that was shown [SCHED-21, SCHED-22]', async () => {
  expect(await run('pause', '--reason', 'spring cleaning')).toMatchObject({ code: 0, out: 'the queue is paused by admin: spring cleaning\n' });
  const tasks = [];
  for (const text of ['a', 'b', 'c', 'd', 'e']) tasks.push((await orchestra.submit('note', { text }, { name: text })).id);
  const [a, b, c, d, e] = tasks as [string, string, string, string, string];
  await eventually(async () => (await orchestra.sql`select 1 from line where state = 'waiting'`).length === 5);
  expect(await shown()).toEqual([a, b, c, d, e]);
  expect((await run('queue')).err).toContain('the queue is paused by admin: spring cleaning');

  expect(await run('move', d.slice(0, 8), '--before', b)).toMatchObject({ code: 0, out: `${d}\tmoved before ${b}, priority 5\n` });
  expect(await run('move', a, '--after', c)).toMatchObject({ code: 0 });
  expect(await run('hold', e)).toMatchObject({ code: 0, out: `${e}\theld\n` });
  expect(await shown()).toEqual([d, b, c, a, e]);
  expect((await run('queue', '--why', 'held')).out).toContain('is held until it is released');
  expect((await orchestra.task(e)).status_detail).toBe('held');

  const picture = await run('top');
  expect(picture.out).toMatch(/0 running, 5 waiting/);
  expect(picture.out).toContain('the queue is paused by admin: spring cleaning');
  expect(JSON.parse((await run('--json', 'top')).out)).toMatchObject({ queue: { total: 5 }, models: { items: [] } });

  expect(await run('resume')).toMatchObject({ code: 0, out: 'the queue goes on\n' });
  for (const id of [d, b, c, a]) expect((await orchestra.finished(id)).status).toBe('completed');
  const started = await orchestra.sql`select task_id from task_executions order by started_at`;
  expect(started.map((row) => row['task_id'] as string)).toEqual([d, b, c, a]);
  expect((await orchestra.task(e)).status).toBe('queued');
  expect(await run('release', e)).toMatchObject({ code: 0, out: `${e}\treleased\n` });
  expect((await orchestra.finished(e)).status).toBe('completed');
});

// util-linux' script, which is part of every Debian, gives the command a terminal.
test.runIf(process.platform === 'linux')(
  'top draws the window again and again on a terminal until q or Ctrl-C, and leaves the terminal as it was [SCHED-22]',
  async () => {
    for (const key of ['q', '\x03']) {
      const command = `${process.execPath} --import tsx ${join(import.meta.dirname, '../../cli/main.ts')} top`;
      const child = spawn('script', ['-qefc', command, '/dev/null'], {
        env: { PATH: process.env['PATH'], TERM: 'xterm', ORCHESTRA_API: api, ORCHESTRA_KEY: orchestra.key },
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      let seen = '';
      child.stdout.on('data', (chunk: Buffer) => {
        seen += chunk.toString();
      });
      const closed = once(child, 'close');
      await eventually(() => seen.split('0 running').length > 3, { timeoutMs: 40_000 });
      child.stdin.write(key);
      expect((await closed)[0]).toBe(0);
      // on its second screen, without a cursor, and with lines cut at the edge, so that a narrow window holds all rows
      expect(seen.startsWith('\x1b[?1049h\x1b[?25l\x1b[?7l')).toBe(true);
      expect(seen.trimEnd().endsWith('\x1b[?7h\x1b[?25h\x1b[?1049l')).toBe(true);
    }
  },
);

test('what cannot be done is said with its remedy, and by the exit code [SCHED-22]', async () => {
  const { id } = await orchestra.submit('note', { text: 'x' });
  await orchestra.finished(id);
  const wrong: [string[], number, string][] = [
    [['move', id, '--before', '00000000-0000-4000-8000-000000000000'], 1, '[task_finished]'],
    [['move', id], 2, 'either --before or --after'],
    [['move', id, '--before', id, '--after', id], 2, 'either --before or --after'],
    [['hold', '00000000-0000-4000-8000-000000000000'], 3, '[task_not_found]'],
    [['hold', id], 1, '[task_finished]'],
    [['pause', '--model', 'a', '--host', 'b'], 2, '--model or --host'],
    [['pause', '--host', 'nowhere'], 3, '[unknown_host]'],
    [['queue', '--pool', 'gpu'], 2, 'no pool'],
    [['top', '--every', 'x'], 2, '--every'],
  ];
  for (const [args, code, said] of wrong) expect(await run(...args), args.join(' ')).toMatchObject({ code, out: '', err: expect.stringContaining(said) });
  expect((await run('queue')).err).toContain('Nothing waits.');
});
