import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTinyModel, tinyShape } from '../../../activities/backends/server/tiny-model.js';
import { packageRoot } from '../../../config.js';
import { isFinal } from '../../../contract/status.js';
import type { TaskView } from '../../../contract/schemas/task.js';
import { connect, disconnect, type Sql } from '../../../db/connect.js';
import { type Entry, submitAll } from '../../chaos/ledger.js';
import { createProduct, type Product } from '../../chaos/product.js';
import { seeded } from '../../chaos/random.js';
import { leftBehind } from '../../support/left-behind.js';
import { cpuTicks, type OwnOllama, startOwnOllama } from '../../support/own-ollama.js';
import { eventually } from '../../support/servers.js';

// The built product with servers of its own, killed and stopped as an operating system would. Its Ollama is named, since one that runs
// on this machine would be used otherwise.

const model = 'product-endless:latest';
const parameters = ['parameters:', '  - { name: token, type: string, required: true }'];
const templates = {
  slow: [
    'name: slow',
    'description: Clone a repository and run a script that takes its time',
    ...parameters,
    '  - { name: repo_url, type: string, required: true }',
    '  - { name: seconds, type: string, required: true }',
    'steps:',
    '  - { type: git_clone, repo: "{{repo_url}}" }',
    '  - { type: execute_script, script: slow.sh, args: ["{{seconds}}", "{{token}}"] }',
    '  - { type: store_result, path: note.txt }',
  ].join('\n'),
  broken: [
    'name: broken',
    'description: Clone a repository and run a script that fails',
    ...parameters,
    '  - { name: repo_url, type: string, required: true }',
    'steps:',
    '  - { type: git_clone, repo: "{{repo_url}}" }',
    '  - { type: execute_script, script: broken.sh, args: ["{{token}}"] }',
  ].join('\n'),
  ask: [
    'name: ask',
    'description: Ask a model, then store a token',
    ...parameters,
    'steps:',
    `  - { type: ollama_generate, model: "${model}", prompt: "{{token}}", options: { num_predict: 40, temperature: 1.5, seed: 1 } }`,
    '  - { type: format_output, format: text, data: "{{token}}" }',
    '  - { type: store_result, path: note.txt }',
  ].join('\n'),
};

let home: string;
let product: Product;
let ollama: OwnOllama;
let repository: string;

beforeAll(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'orchestra-faults-'));
  await chmod(home, 0o755);
  const directory = path.join(home, 'templates');
  await cp(path.join(packageRoot(), 'test', 'chaos', 'templates'), directory, { recursive: true });
  for (const [name, yaml] of Object.entries(templates)) await writeFile(path.join(directory, `${name}.yaml`), yaml);
  repository = await createRepository(path.join(home, 'scripts'));
  ollama = await startOwnOllama();
  for (const name of [model, 'chaos-a:latest']) await createTinyModel(ollama.url, name, { ...tinyShape, endless: name === model, seed: name.length });
  product = await createProduct(home, {
    models: true,
    env: { TEMPLATES_DIRECTORY: directory, OLLAMA_HOST: ollama.url, LOG_FORMAT: 'json', SHUTDOWN_GRACE_SECONDS: '1' },
  });
  await product.up();
}, 300_000);
afterAll(async () => {
  expect(await product?.down()).toEqual([]);
  await ollama?.stop();
  expect(await processesOf(home)).toEqual([]);
  await rm(home, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
}, 120_000);

async function createRepository(folder: string): Promise<string> {
  await mkdir(folder);
  await writeFile(path.join(folder, 'slow.sh'), '#!/bin/sh\nsleep "$1"\nprintf "%s" "$2"\n', { mode: 0o755 });
  await writeFile(path.join(folder, 'broken.sh'), '#!/bin/sh\necho "the disk named $1 is on fire" >&2\nexit 7\n', { mode: 0o755 });
  const git = (...args: string[]) => execFileSync('git', ['-C', folder, '-c', 'user.name=test', '-c', 'user.email=test@example.invalid', ...args]);
  git('init', '-q', '-b', 'main');
  git('add', '.');
  git('commit', '-q', '-m', 'scripts');
  return `file://${folder}`;
}

/** Processes that were given this text as an argument or in their environment. */
async function processesOf(text: string): Promise<string[]> {
  const found: string[] = [];
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
    const [cmdline, environ] = await Promise.all(['cmdline', 'environ'].map((file) => readFile(`/proc/${pid}/${file}`, 'utf8').catch(() => '')));
    if (cmdline?.includes(text) || environ?.includes(text)) found.push(`${pid} ${cmdline?.replaceAll('\0', ' ')}`);
  }
  return found;
}

async function request(method: string, url: string, body?: object): Promise<{ status: number; body: ReturnType<typeof JSON.parse> }> {
  const answer = await fetch(`${product.api}${url}`, {
    method,
    headers: await product.headers(),
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: answer.status, body: await answer.json() };
}

async function submit(template: string, given: object, more: object = {}): Promise<string> {
  const answer = await request('POST', '/api/v1/tasks', { template, parameters: given, ...more });
  expect(answer.status).toBe(201);
  return answer.body.id as string;
}

const finished = (id: string, timeoutMs = 90_000) =>
  eventually(
    async () => {
      const { body } = await request('GET', `/api/v1/tasks/${id}`);
      if (!isFinal((body as TaskView).status)) throw new Error(`task ${id} is ${body.status} (${body.status_detail})`);
      return body as TaskView;
    },
    { timeoutMs },
  );

async function withDatabase<T>(use: (sql: Sql) => Promise<T>): Promise<T> {
  const sql = connect(await product.databaseUrl(), { applicationName: 'test', connectionsMax: 2 });
  try {
    return await use(sql);
  } finally {
    await disconnect(sql);
  }
}

const pidOf = (name: string) => eventually(async () => (await product.processes()).get(name)?.pid);
async function kill(name: string, signal: NodeJS.Signals = 'SIGKILL'): Promise<number> {
  const pid = await pidOf(name);
  process.kill(pid, signal);
  return pid;
}

const stored = (id: string) => readFile(path.join(home, 'results', id, 'note.txt'), 'utf8');
const nothingIsLeft = () =>
  withDatabase((sql) =>
    eventually(
      async () => {
        expect(await leftBehind(sql, path.join(home, 'workspaces'))).toEqual([]);
        return true;
      },
      { timeoutMs: 30_000 },
    ),
  );
/** How a step went: one line of `state cause` for each try, in order. */
const triesOf = (id: string, step: string) =>
  withDatabase(async (sql) => {
    const rows = await sql<{ state: string; cause: string | null }[]>`select state, cause from line where task_id = ${id} and step = ${step} order by try`;
    return rows.map(({ state, cause }) => cause ?? state);
  });

/** Every accepted task is there once and has the right end. */
async function allAreDone(entries: readonly Entry[]): Promise<void> {
  for (const entry of entries) {
    const task = await finished(entry.id ?? '', 120_000);
    const cancelled = entry.cancelled === 200 || (entry.cancelled === 202 && task.status === 'cancelled');
    expect([task.id, task.status, task.error]).toEqual([task.id, cancelled ? 'cancelled' : 'completed', null]);
    if (!cancelled) expect(await stored(task.id)).toContain(entry.token);
  }
  await withDatabase(async (sql) => {
    const tokens = entries.map(({ token }) => token);
    expect((await sql`select 1 from tasks where parameters ->> 'token' = any(${tokens})`).length).toBe(entries.length);
  });
}

test('a seeded fault is found by the id of its task in the logs of the API and the engine, with its reason [OBS-07, OBS-08]', async () => {
  const id = await submit('broken', { token: 'beta', repo_url: repository });
  expect(await finished(id)).toMatchObject({ status: 'failed', error: { step: 'execute_script' } });
  const linesOf = async (main: string) => (await readFile(path.join(home, 'logs', `${main}.log`), 'utf8')).split('\n').filter((line) => line.includes(id));
  expect((await linesOf('api')).map((line) => JSON.parse(line) as object)).toContainEqual(
    expect.objectContaining({ task_id: id, workflow_id: `task-${id}`, main: 'api' }),
  );
  const engine = (await linesOf('engine')).map((line) => JSON.parse(line) as object);
  expect(engine).toContainEqual(expect.objectContaining({ task_id: id, workflow_id: `task-${id}`, step: 'git_clone', msg: 'step finished' }));
  expect(engine).toContainEqual(expect.objectContaining({ task_id: id, step: 'execute_script', level: 'WARNING', reason: expect.stringContaining('7') }));
  await nothingIsLeft();
}, 60_000);

test('a task that was accepted while Temporal hangs is started by the sweeper after its API was killed, as one workflow [fault-1, DUR-08]', async () => {
  const temporal = await kill('temporal', 'SIGSTOP');
  const id = await submit('chaos-note', { token: 'accepted' });
  await kill('api');
  process.kill(temporal, 'SIGCONT');
  await eventually(async () => (await fetch(`${product.api}/readyz`)).ok, { timeoutMs: 30_000 });
  expect(await finished(id)).toMatchObject({ status: 'completed', attempt: 1 });
  expect(await stored(id)).toContain('accepted');
  await withDatabase(async (sql) => expect((await sql`select cardinality(runs) as runs from tasks where id = ${id}`)[0]?.['runs']).toBe(1));
  await nothingIsLeft();
}, 90_000);

test('an engine that is killed in the middle of a script leaves no process, and the step alone runs again [fault-6, DUR-02]', async () => {
  const token = `mid-script-${randomUUID()}`;
  const id = await submit('slow', { token, repo_url: repository, seconds: '8' });
  await eventually(async () => (await processesOf(token)).length > 0);
  await kill('engine');
  await eventually(async () => (await processesOf(token)).length === 0, { timeoutMs: 6_000 }); // before it would end by itself
  expect(await finished(id)).toMatchObject({ status: 'completed', attempt: 1 });
  expect(await stored(id)).toContain(token);
  expect(await triesOf(id, 'git_clone')).toEqual(['done']);
  expect(await triesOf(id, 'execute_script')).toEqual(['host_lost', 'done']);
  await nothingIsLeft();
}, 120_000);

test('a host that is killed in the middle of an answer frees the model server, and the answer is made anew [fault-7]', async () => {
  await finished(await submit('ask', { token: 'warm' }));
  const [runner = 0] = await ollama.runners();
  process.kill(runner, 'SIGSTOP'); // so that the answer cannot be finished before the kill
  const id = await submit('ask', { token: 'mid-answer' });
  await withDatabase((sql) => eventually(async () => (await sql`select 1 from line where task_id = ${id} and state = 'running'`).length === 1));
  await kill('host');
  process.kill(runner, 'SIGCONT');
  let before = -1;
  await eventually(async () => {
    await new Promise((resolve) => setTimeout(resolve, 300)); // between two readings of the processor time
    const ticks = await cpuTicks(runner);
    const idle = ticks === before;
    before = ticks;
    return idle;
  });
  expect(await finished(id)).toMatchObject({ status: 'completed', attempt: 1 });
  expect(await triesOf(id, 'ollama_generate')).toEqual(['host_lost', 'done']);
  await nothingIsLeft();
}, 120_000);

test('what tasks hold whose engine and host are killed stays theirs to their end, or to their cancel, and then the next one has it [CONC-08]', async () => {
  await finished(await submit('ask', { token: 'warm' }));
  const cpus = async () => {
    const { items } = (await request('GET', '/api/v1/resources')).body as { items: { pool: string; total: number; allocated: number }[] };
    return items.find(({ pool }) => pool === 'cpu') ?? { total: 0, allocated: 0 };
  };
  const { total } = await eventually(async () => ((await cpus()).total > 0 ? cpus() : null));
  const needing = (share: number, ...locks: string[]) => ({ resource_requirements: { cpu_cores: total * share, locks } });
  const [runner = 0] = await ollama.runners();
  process.kill(runner, 'SIGSTOP'); // so that the answer cannot be finished before the kill
  const tokens = { script: `holder-${randomUUID()}`, cancelled: `holder-${randomUUID()}` };
  const script = await submit('slow', { token: tokens.script, repo_url: repository, seconds: '3' }, needing(0.25, 'left'));
  const cancelled = await submit('slow', { token: tokens.cancelled, repo_url: repository, seconds: '60' }, needing(0.25, 'middle'));
  const answer = await submit('ask', { token: 'holder' }, needing(0.25, 'right'));
  for (const token of Object.values(tokens)) await eventually(async () => (await processesOf(token)).length > 0);
  await withDatabase((sql) => eventually(async () => (await sql`select 1 from line where task_id = ${answer} and state = 'running'`).length === 1));
  const next = await submit('slow', { token: 'next', repo_url: repository, seconds: '0' }, needing(1, 'left', 'middle', 'right'));
  await Promise.all([kill('engine'), kill('host')]);
  process.kill(runner, 'SIGCONT');
  expect((await request('DELETE', `/api/v1/tasks/${cancelled}`)).status).toBe(202);

  for (const id of [script, answer]) expect(await finished(id, 120_000)).toMatchObject({ status: 'completed', attempt: 1 });
  expect(await triesOf(script, 'execute_script')).toEqual(['host_lost', 'done']);
  expect(await triesOf(answer, 'ollama_generate')).toEqual(['host_lost', 'done']);
  expect(await finished(cancelled)).toMatchObject({ status: 'cancelled' });
  expect(await finished(next)).toMatchObject({ status: 'completed', attempt: 1 });
  await withDatabase(async (sql) => {
    // it began when the last of them had ended
    const [order] = await sql`select min(started_at) filter (where id = ${next}) >= max(completed_at) filter (where id <> ${next}) as behind from tasks
      where id = any(${[script, cancelled, answer, next]})`;
    expect(order).toEqual({ behind: true });
  });
  expect((await cpus()).allocated).toBe(0);
  await nothingIsLeft();
}, 180_000);

test('an engine that stands still and wakes up after its step was done elsewhere changes nothing and works on [fault-8]', async () => {
  const first = await pidOf('engine');
  const environment = Object.fromEntries(
    (await readFile(`/proc/${first}/environ`, 'utf8'))
      .split('\0')
      .filter(Boolean)
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
  const token = `zombie-${randomUUID()}`;
  const id = await submit('slow', { token, repo_url: repository, seconds: '3' });
  await eventually(async () => (await processesOf(token)).length > 0);
  process.kill(first, 'SIGSTOP');
  const second: ChildProcess = spawn(process.execPath, [path.join(packageRoot(), 'dist', 'cli', 'main.js'), 'engine'], { env: environment, stdio: 'ignore' });
  try {
    expect(await finished(id, 120_000)).toMatchObject({ status: 'completed', attempt: 1 });
    expect(await triesOf(id, 'execute_script')).toContain('host_lost');
    process.kill(first, 'SIGCONT');
    // Awake, it takes a new lease; what it did with its late result is over when it works again.
    await withDatabase((sql) => eventually(async () => (await sql`select 1 from engines where lease_until > now()`).length === 2));
    expect(await finished(await submit('slow', { token: 'after', repo_url: repository, seconds: '0' }))).toMatchObject({ status: 'completed' });
    await withDatabase(async (sql) => {
      const commits = await sql`select 1 from task_executions where task_id = ${id} and step = 'execute_script' and status = 'completed'`;
      expect(commits).toHaveLength(1);
    });
    expect(await stored(id)).toContain(token);
    await nothingIsLeft();
  } finally {
    process.kill(first, 'SIGCONT');
    const end = once(second, 'exit');
    second.kill('SIGTERM');
    expect(await end).toEqual([0, null]);
  }
}, 180_000);

test('each process killed in turn under load: waiting tasks keep their place, nothing is lost and nothing is done twice [DUR-01, fault-13, MODEL-14]', async () => {
  const random = seeded(1, 'product');
  const submitting = submitAll(product, { tasks: 30, models: ['chaos-a:latest'], spreadMs: 12_000 }, random);
  const places = () =>
    withDatabase((sql) => sql<{ id: string; place: string }[]>`select id, level || ' ' || exact || ' ' || pos as place from line where state = 'waiting'`);
  const before = new Map<string, string>();
  for (const name of ['engine', 'postgres', 'temporal', 'api', 'ollama', 'host'] as const) {
    await eventually(async () => {
      for (const { id, place } of await places()) before.set(id, place);
      return true;
    });
    if (name === 'ollama') await ollama.kill();
    else await kill(name);
    await new Promise((resolve) => setTimeout(resolve, random.between(500, 2_000))); // faults come at odd moments
    if (name === 'ollama') await ollama.start();
  }
  for (const { id, place } of await eventually(places)) if (before.has(id)) expect(place).toBe(before.get(id));
  const entries = await submitting;
  await allAreDone(entries);
  await nothingIsLeft();
}, 300_000);

test('everything killed at once in any order, up included: the next start goes on with every accepted task [fault-35]', async () => {
  const random = seeded(2, 'product');
  const entries = await submitAll(product, { tasks: 12, models: [], spreadMs: 0 }, random);
  const all = [...(await product.processes())].map(([, { pid }]) => pid);
  while (all.length > 0) {
    const [pid = 0] = all.splice(random.between(0, all.length - 1), 1);
    process.kill(pid, 'SIGKILL');
    if (all.length === 3) await product.killUp();
  }
  await product.up();
  await allAreDone(entries);
  await nothingIsLeft();
}, 240_000);

test('SIGTERM under load: all ends in order with exit code 0, and the next start finishes what was accepted [DUR-11]', async () => {
  const entries = await submitAll(product, { tasks: 12, models: [], spreadMs: 0 }, seeded(3, 'product'));
  expect(await product.down()).toEqual([]);
  expect(await processesOf(home)).toEqual([]);
  await product.up();
  await allAreDone(entries);
  await nothingIsLeft();
}, 240_000);
