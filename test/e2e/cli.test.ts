import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTinyModel } from '../../activities/backends/server/tiny-model.js';
import { createClient } from '../../client/client.js';
import { type Installation, startInstallation } from '../support/installation.js';
import { eventually, ollamaAddress } from '../support/servers.js';

const model = 'cli-tiny';
let orchestra: Installation;
let api: string;
let folder: string;

beforeAll(async () => {
  await createTinyModel(ollamaAddress(), model);
  folder = mkdtempSync(join(tmpdir(), 'orchestra-cli-'));
  const script = [
    'name: script',
    'parameters:',
    '  - { name: command, type: string, required: true }',
    'steps:',
    `  - { type: git_clone, repo: "file://${repositoryIn(folder)}" }`,
    '  - { id: run, type: execute_script, script: do.sh, args: ["{{ command }}"] }',
  ].join('\n');
  orchestra = await startInstallation({ models: true, templates: { script } });
  api = await orchestra.serve();
  writeFileSync(join(folder, 'key'), `${orchestra.key}\n`);
}, 180_000);

afterAll(async () => {
  await orchestra?.stop();
  if (folder) rmSync(folder, { recursive: true });
});

/** A repository with a script that does what it is told. */
function repositoryIn(parent: string): string {
  const repository = join(parent, 'repository');
  mkdirSync(repository);
  writeFileSync(join(repository, 'do.sh'), '#!/bin/sh\neval "$1"\n', { mode: 0o755 });
  const git = (...args: string[]) => execFileSync('git', ['-C', repository, '-c', 'user.name=test', '-c', 'user.email=test@example.invalid', ...args]);
  git('init', '-q', '-b', 'main');
  git('add', '.');
  git('commit', '-q', '-m', 'first');
  return repository;
}

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** The command line as a person starts it; `during` sees it while it runs. */
async function run(args: readonly string[], { env = {}, input, during }: RunOptions = {}): Promise<Ended> {
  const child = spawn(process.execPath, ['--import', 'tsx', join(import.meta.dirname, '../../cli/main.ts'), ...args], {
    env: { PATH: process.env['PATH'], ORCHESTRA_HOME: folder, ORCHESTRA_API: api, ORCHESTRA_KEY: orchestra.key, ...env },
    stdio: 'pipe',
  });
  const read = { code: null as number | null, out: '', err: '' };
  child.stdout.on('data', (chunk: Buffer) => {
    read.out += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    read.err += chunk.toString();
  });
  child.stdin.end(input ?? '');
  const closed = once(child, 'close');
  if (during !== undefined) await during(read, (signal) => void child.kill(signal));
  [read.code] = (await closed) as [number | null];
  return read;
}

interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
  readonly during?: (read: Ended, kill: (signal: NodeJS.Signals) => void) => Promise<void>;
}

const idOf = (text: string) => /[0-9a-f]{8}-[0-9a-f-]{27}/.exec(text)?.[0] ?? '';

test('submit --wait prints the result, and its exit code says how the task ended [MGR-10]', async () => {
  const asked = await run(['submit', 'ollama-inference', '-p', `model=${model}`, '-p', 'prompt=@-', '--wait'], { input: 'Say something.' });
  expect(asked).toMatchObject({ code: 0, err: expect.stringMatching(/^task [0-9a-f-]{36}\n/) });
  const task = await orchestra.task(idOf(asked.err));
  expect(task.parameters).toMatchObject({ prompt: 'Say something.' });
  expect(JSON.parse((await run(['--json', 'show', task.id])).out)).toEqual(task);

  const failing = await run(['submit', 'script', '-p', 'command=echo before; exit 3', '--wait']);
  expect(failing).toMatchObject({ code: 1, err: expect.stringContaining('[script_failed]') });
  const shown = await run(['show', idOf(failing.err).slice(0, 8)]);
  expect(shown.out).toContain('script_failed');
});

test('what is wrong is said with its place and a remedy, and nothing is created [MGR-10]', async () => {
  const before = await orchestra.sql`select 1 from tasks`;
  const wrong: [string[], number, string, Record<string, string>?][] = [
    [['submit', 'nothing-like-it'], 3, '`orchestra templates`'],
    [['submit', 'script'], 2, 'parameters.command'],
    [['submit', 'script', '-p', 'comand=x'], 2, 'it takes command'],
    [['submit', 'script', '-p', 'command=x', '--priority', '11'], 2, '1 to 10'],
    [['submit', 'script', '-p', 'command=@/nowhere'], 2, '/nowhere cannot be read'],
    [['show', 'xyz'], 2, 'no id of a task'],
    [['show', '00000000-0000-4000-8000-000000000000'], 3, '[task_not_found]'],
    [['list', '--since', 'yesterday'], 2, 'no time'],
    [['retry'], 2, 'either ids of tasks or filters'],
    [['frobnicate'], 2, 'unknown command'],
    [['list'], 4, '[unauthorized]', { ORCHESTRA_KEY: 'not-a-key' }],
    [['list'], 4, 'orchestra up', { ORCHESTRA_API: 'http://127.0.0.1:9' }],
    [['list'], 4, 'No installation runs in', { ORCHESTRA_API: '' }],
    [['list'], 2, 'no address of an API', { ORCHESTRA_API: 'localhost:8080' }],
    [['--api', 'http://example.invalid', 'list'], 4, 'is not sent', { ORCHESTRA_KEY: '' }],
  ];
  for (const [args, code, said, env = {}] of wrong) {
    const ended = await run(args, { env });
    expect(ended, args.join(' ')).toMatchObject({ code, out: '', err: expect.stringContaining(said) });
    expect(ended.err, args.join(' ')).not.toContain('    at ');
  }
  expect(await orchestra.sql`select 1 from tasks`).toHaveLength(before.length);
});

test('logs --follow shows what a script prints while it runs; Ctrl-C stops watching, not the task [MGR-10, TASK-21]', async () => {
  const { id } = await orchestra.submit('script', { command: 'echo first; sleep 8; echo last' });
  const left = await run(['logs', '--follow', id], {
    during: async (read, kill) => {
      await eventually(() => read.out.includes('first'));
      kill('SIGINT');
    },
  });
  expect(left).toMatchObject({ code: 130, out: 'first\n', err: expect.stringContaining(`orchestra cancel ${id}`) });
  const followed = await run(['logs', '-f', '-o', id]);
  expect(followed).toMatchObject({ code: 0, out: 'first\nlast\n' });
  expect((await orchestra.task(id)).status).toBe('completed');
  expect((await run(['logs', '-o', id])).out).toBe('first\nlast\n');
});

test('a wait goes on through Ctrl-C to the task, and submit --follow fails with its task [MGR-10]', async () => {
  const left = await run(['submit', 'script', '-p', 'command=sleep 3', '--wait'], {
    during: async (read, kill) => {
      await eventually(async () => (await orchestra.task(idOf(read.err))).status === 'running');
      kill('SIGINT');
    },
  });
  expect(left.code).toBe(130);
  expect(await orchestra.finished(idOf(left.err))).toMatchObject({ status: 'completed' });
  const failed = await run(['submit', 'script', '-p', 'command=echo seen; exit 1', '--follow']);
  expect(failed).toMatchObject({ code: 1, out: 'seen\n' });
});

test('list gives what the API gives, and lines for programs [MGR-10]', async () => {
  const { id } = await orchestra.submit('script', { command: 'true' }, { name: 'a name', priority: 3 });
  await orchestra.finished(id);
  const listed = await run(['--json', 'list', '--level', '3', '--status', 'completed']);
  expect(JSON.parse(listed.out)).toEqual((await orchestra.request('GET', '/api/v1/tasks?priority=3&status=completed')).body);
  expect((await run(['list', '--level', '3'])).out.split('\t')).toEqual(expect.arrayContaining([id, 'completed', 'a name']));
});

test('what a script prints cannot steer the terminal [MGR-10]', async () => {
  const steering = String.raw`command=printf '\033]52;c;cm0=\007\033[2Jshown\n'`;
  const followed = await run(['submit', 'script', '-p', steering, '--follow']);
  expect(followed).toMatchObject({ code: 0, out: '\\x1b]52;c;cm0=\\x07\\x1b[2Jshown\n' });
  expect((await run(['--json', 'logs', '-o', idOf(followed.err)])).out).not.toContain('\u001b');
});

test('many tasks are created, held back, changed and reported by one command each [MGR-10]', async () => {
  const file = join(folder, 'tasks.jsonl');
  const item = (n: number) =>
    JSON.stringify({ template: 'script', parameters: { command: 'sleep 60' }, name: `many-${n}`, priority: 2, idempotency_key: `many-${n}` });
  writeFileSync(file, `${item(1)}\n${item(2)}\n\n${JSON.stringify({ template: 'nope', parameters: {} })}\n`);
  const batch = await run(['--json', 'batch', file]);
  expect(batch.code).toBe(1);
  expect(JSON.parse(batch.out)).toMatchObject({ created: 2, existing: 0, refused: 1 });
  expect(await run(['batch', file])).toMatchObject({ code: 1, err: expect.stringContaining('0 created, 2 there already, 1 refused') });

  const asked = await run(['cancel', '--level', '2']);
  expect(asked).toMatchObject({ code: 2, err: expect.stringContaining('--yes') });
  expect((await run(['cancel', '--level', '2', '--dry-run'])).out.match(/would be changed/g)).toHaveLength(2);
  expect((await run(['cancel', '--level', '2', '--yes'])).code).toBe(0);
  const report = await run(['report', '--level', '2', '-o', join(folder, 'report.csv')]);
  expect(report.code).toBe(0);
  const rows = readFileSync(join(folder, 'report.csv'), 'utf8').trim().split('\n');
  expect(rows).toHaveLength(3);
  await eventually(async () => (await run(['list', '--level', '2', '--status', 'cancelled'])).out.trim().split('\n').length === 2);
});

test('locks and resources are asked for and shown [MGR-10, CONC-09]', async () => {
  const { id } = await orchestra.submit('script', { command: 'sleep 60' }, { resource_requirements: { locks: ['cli-first'] } });
  await eventually(async () => (await run(['locks'])).out.includes('cli-first'));
  const second = await run(['submit', 'script', '-p', 'command=true', '--lock', 'cli-first', '--lock', 'cli-second', '--needs', 'cpu=0.5']);
  const waiting = second.out.trim();
  await eventually(async () => (await orchestra.task(waiting)).status_detail === 'waiting_lock');
  expect((await run(['locks'])).out.split('\t')).toEqual(expect.arrayContaining(['cli-first', id, 'end', '1\n']));
  expect((await run(['--json', 'locks'])).out).toContain(waiting);
  expect((await run(['resources'])).out).toMatch(/^cpu\t.* cores\t0\t.*\t1$/m);
  expect(await run(['submit', 'script', '-p', 'command=true', '--needs', 'cpu'])).toMatchObject({ code: 2, err: expect.stringContaining('cpu=2') });
  expect((await run(['submit', 'script', '-p', 'command=true', '--needs', 'cpu=100000'])).err).toContain('there is');
  await run(['cancel', id, '--yes']);
  expect(await orchestra.finished(waiting)).toMatchObject({ status: 'completed' });
});

test('models, templates, the configuration and checkpoints are shown and asked for [MGR-10]', async () => {
  expect(await run(['models', 'load', model])).toMatchObject({ code: 0, out: expect.stringContaining(`${model}:latest on local: load done`) });
  expect((await run(['models'])).out).toContain(`${model}:latest`);
  expect(await run(['models', 'unload', model])).toMatchObject({ code: 0 });
  expect((await run(['templates'])).out).toContain('ollama-inference');
  expect((await run(['templates', 'show', 'script'])).out).toContain('# script');
  expect((await run(['submit', 'script', '-p', 'command=true', '--dry-run'])).out).toContain('1. git_clone (git_clone)');
  expect((await run(['config'])).out).toMatch(/^home\t.*\tORCHESTRA_HOME\t/m);
  const id = (await run(['checkpoint', 'create', '--name', 'before'])).out.trim();
  expect((await run(['checkpoint', 'list'])).out).toContain('before');
  expect((await run(['checkpoint', 'restore', id])).code).toBe(0);
});

test('doctor says what is there and what is missing, with the remedy [MGR-10]', async () => {
  const examined = await run(['--json', 'doctor'], { env: { OLLAMA_HOST: ollamaAddress() } });
  const { findings } = JSON.parse(examined.out) as { findings: { ok: boolean; part: string; what: string }[] };
  expect(findings.map(({ part }) => part)).toEqual(expect.arrayContaining(['disk', 'git', 'PostgreSQL', 'Temporal', 'Ollama', 'sandbox']));
  const bare = await run(['doctor'], { env: { OLLAMA_HOST: '127.0.0.1:9', PATH: '/nowhere' } });
  expect(bare).toMatchObject({ code: 1, out: expect.stringMatching(/^missing git +.*install it/m) });
  expect(bare.out).toMatch(/^missing Ollama +.*OLLAMA_HOST/m);
});

test('the library creates once for one key, waits for the end, and throws what the API refuses [MGR-11]', async () => {
  const client = createClient({ baseUrl: api, apiKey: orchestra.key });
  const created = await client.tasks.create({ template: 'script', parameters: { command: 'echo done' } }, { idempotencyKey: 'lib-1' });
  expect((await client.tasks.create({ template: 'script', parameters: { command: 'echo done' } }, { idempotencyKey: 'lib-1' })).id).toBe(created.id);
  const ended = await client.tasks.wait(created.id);
  expect(ended).toEqual(await orchestra.task(created.id));
  expect(ended).toMatchObject({ status: 'completed', result: { stdout: 'done\n' } });
  await expect(client.tasks.cancel(created.id)).rejects.toMatchObject({ code: 'task_finished', status: 409 });
});
