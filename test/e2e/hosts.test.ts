import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { createTinyModel, tinyShape } from '../../activities/backends/server/tiny-model.js';
import { packageRoot } from '../../config.js';
import type { ModelListView } from '../../contract/schemas/model.js';
import type { TaskView } from '../../contract/schemas/task.js';
import { backendOf } from '../support/host-parts.js';
import { type HttpFaultProxy, startHttpFaultProxy } from '../support/http-fault-proxy.js';
import { type Installation, startInstallation } from '../support/installation.js';
import { leftBehind } from '../support/left-behind.js';
import { type OwnOllama, startOwnOllama } from '../support/own-ollama.js';
import { eventually, temporalAddress } from '../support/servers.js';

// Two hosts as a person starts them: `orchestra host` twice, each with its own HOST_ID and OLLAMA_HOST.
const [onOne, onTwo, both] = ['hosts-one:latest', 'hosts-two:latest', 'hosts-both:latest'];
const limit = { timeoutMs: 60_000 };
const ask = (tokens: number) =>
  [
    'parameters:',
    '  - { name: model, type: string, required: true }',
    'steps:',
    `  - { type: ollama_generate, model: "{{model}}", prompt: hello, options: { num_ctx: 512, num_predict: ${tokens}, temperature: 1.5, seed: 1 } }`,
  ].join('\n');
const templates = { ask: `name: ask\n${ask(16)}` };
/** An answer that does not end before it is let go on. */
const stalled = { kind: 'stall', afterLines: 4 } as const;

interface HostProcess {
  readonly child: ChildProcess;
  readonly exit: Promise<{ readonly code: number | null; readonly signal: string | null; readonly printed: string }>;
}

let servers: OwnOllama[];
/** what the hosts know as their servers */
let proxies: HttpFaultProxy[];
let orchestra: Installation;
let cache: string;
const started: HostProcess[] = [];

beforeAll(async () => {
  cache = await mkdtemp(path.join(tmpdir(), 'hosts-'));
  servers = await Promise.all([startOwnOllama(), startOwnOllama()]);
  const [one = '', two = ''] = servers.map(({ url }) => url);
  const models: [string, string, number][] = [
    [one, onOne, 1],
    [two, onTwo, 2],
    [one, both, 3],
    [two, both, 3],
  ];
  for (const [url, name, seed] of models) await createTinyModel(url, name, { ...tinyShape, endless: true, seed });
  proxies = await Promise.all(servers.map(({ url }) => startHttpFaultProxy(url)));
  orchestra = await startInstallation({ templates });
}, 180_000);

afterAll(async () => {
  await orchestra?.stop();
  for (const proxy of proxies ?? []) await proxy.close();
  for (const server of servers ?? []) await server.stop();
  if (cache) await rm(cache, { recursive: true, force: true });
});

afterEach(async () => {
  letGoOn();
  for (const { child, exit } of started.splice(0)) {
    child.kill('SIGCONT');
    child.kill('SIGKILL');
    await exit;
  }
  // What they leave is not waited for by the next test.
  await orchestra.sql`update hosts set lease_until = now() - interval '1 second'`;
  for (const url of urls())
    for (const { name } of await backendOf(url).loaded(AbortSignal.timeout(20_000))) await backendOf(url).unload(name, AbortSignal.timeout(20_000));
});

const urls = (): [string, string] => [proxies[0]?.url ?? '', proxies[1]?.url ?? ''];
const stall = (...hosts: readonly number[]) => hosts.forEach((host) => proxies[host]?.fault('/api/generate', stalled)); // a load has one line, so it passes

function startHost(id: string, ollama: string): HostProcess {
  const child = spawn(process.execPath, ['--import', 'tsx', path.join(packageRoot(), 'cli', 'main.ts'), 'host'], {
    env: {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      ORCHESTRA_HOME: orchestra.config.home,
      ORCHESTRA_CACHE: path.join(cache, `cache-${started.length}`), // as on machines of their own: what they share is the database
      DATABASE_URL: orchestra.database.url,
      TEMPORAL_ADDRESS: temporalAddress(),
      TEMPORAL_NAMESPACE: orchestra.config.temporal.namespace,
      MODEL_MAX_LOADED: '1',
      HOST_ID: id,
      OLLAMA_HOST: ollama,
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let printed = '';
  child.stderr.on('data', (chunk: Buffer) => {
    printed += chunk.toString();
  });
  const exit = once(child, 'close').then(([code, signal]) => ({ code: code as number | null, signal: signal as string | null, printed }));
  started.push({ child, exit });
  return { child, exit };
}

const listed = async () => (await orchestra.request('GET', '/api/v1/models')).body as ModelListView;
const ready = (...ids: string[]) =>
  eventually(async () => {
    const { hosts } = await listed();
    return ids.every((id) => hosts.some((host) => host.id === id && host.ready));
  }, limit);

async function startBoth(): Promise<readonly [HostProcess, HostProcess]> {
  const [one, two] = urls();
  const hosts = [startHost('one', one), startHost('two', two)] as const;
  await ready('one', 'two');
  return hosts;
}

interface Ran {
  readonly host: string | null;
  readonly status: string;
  readonly from: number;
  readonly to: number;
}

function letGoOn(): void {
  for (const proxy of proxies) {
    proxy.heal();
    proxy.goOn();
  }
}

/** Every try of a task's step, oldest first. */
async function tries(task: TaskView): Promise<Ran[]> {
  return orchestra.sql<Ran[]>`
    select host, status, extract(epoch from started_at)::float8 as from, extract(epoch from completed_at)::float8 as to
    from task_executions where task_id = ${task.id} order by started_at`;
}

const completed = async (task: TaskView): Promise<Ran | undefined> => {
  expect(await orchestra.finished(task.id, 120_000)).toMatchObject({ status: 'completed' });
  const done = (await tries(task)).filter(({ status }) => status === 'completed');
  expect(done).toHaveLength(1);
  return done[0];
};

const runsOn = (task: TaskView, host: string) =>
  eventually(async () => (await orchestra.sql`select 1 from line where task_id = ${task.id} and state = 'running' and host = ${host}`).length === 1, limit);

/** The host is in the middle of an answer. */
const answering = async (task: TaskView, host: 'one' | 'two') => {
  await runsOn(task, host);
  await eventually(() => proxies[host === 'one' ? 0 : 1]?.stalled() === 1, limit);
};

const nothingLeft = () =>
  eventually(async () => {
    expect(await leftBehind(orchestra.sql, orchestra.config.files.workspacesRoot)).toEqual([]);
    return true;
  }, limit);

test('steps go where their model is and run on both hosts at once; with much waiting for one model both load it [MODEL-17]', async () => {
  await startBoth();
  expect(await listed()).toMatchObject({
    hosts: [
      { id: 'one', ready: true, why: null, address: urls()[0], models_max: 1 },
      { id: 'two', ready: true, why: null, address: urls()[1], models_max: 1 },
    ],
  });
  for (const model of [onOne, onTwo]) await completed(await orchestra.submit('ask', { model }));
  stall(0, 1);
  const [left, right] = [await orchestra.submit('ask', { model: onOne }), await orchestra.submit('ask', { model: onTwo })];
  await answering(left, 'one');
  await answering(right, 'two');
  const { running } = (await orchestra.request('GET', '/api/v1/queue')).body as { running: { host: string; task_id: string }[] };
  expect(running.map(({ host, task_id: id }) => [host, id]).toSorted()).toEqual([
    ['one', left.id],
    ['two', right.id],
  ]);
  letGoOn();
  expect([(await completed(left))?.host, (await completed(right))?.host]).toEqual(['one', 'two']);

  // The first one keeps its host; how long the others take is not known, so that they are worth a second load.
  stall(0);
  const many = await Promise.all(Array.from({ length: 5 }, () => orchestra.submit('ask', { model: both })));
  await eventually(() => proxies[0]?.stalled() === 1, limit);
  const ids = many.map(({ id }) => id);
  await eventually(
    async () => (await orchestra.sql`select 1 from task_executions where task_id = any(${ids}::uuid[]) and status = 'completed' and host = 'two'`).length === 4,
    { timeoutMs: 120_000 },
  );
  letGoOn();
  const hosts = await Promise.all(many.map(async (task) => (await completed(task))?.host));
  expect(hosts.toSorted()).toEqual(['one', 'two', 'two', 'two', 'two']);
  const loads = await orchestra.sql<{ host: string }[]>`select host from residency_orders where load_model = ${both} and state = 'done' order by host`;
  expect(loads.map(({ host }) => host)).toEqual(['one', 'two']);
  await nothingLeft();
}, 240_000);

test('a host that is killed loses its work to the other one; no step is done twice and nothing is left of it [MODEL-17]', async () => {
  const [one] = await startBoth();
  stall(0);
  const running = await orchestra.submit('ask', { model: both });
  await answering(running, 'one');
  const waiting = [await orchestra.submit('ask', { model: both }), await orchestra.submit('ask', { model: both })];
  one.child.kill('SIGKILL');
  expect(await one.exit).toMatchObject({ signal: 'SIGKILL' });

  for (const task of [running, ...waiting]) expect((await completed(task))?.host).toBe('two');
  expect((await tries(running)).map(({ host, status }) => [host, status])).toEqual([
    ['one', 'void'],
    ['two', 'completed'],
  ]);
  await nothingLeft();
  expect(await orchestra.sql`select 1 from residency where host = 'one'`).toEqual([]);
  expect((await listed()).hosts).toContainEqual(expect.objectContaining({ id: 'one', ready: false, why: expect.stringContaining('not been heard of since') }));
  const { checks } = (await orchestra.request('GET', '/api/v1/health')).body;
  expect(checks.ollama).toMatchObject({ status: 'degraded', detail: expect.stringContaining('one: it has not been heard of since') });
}, 240_000);

test('a host that sleeps through the end of its lease changes nothing when it wakes, and serves on under a new epoch [MODEL-17]', async () => {
  const [one] = await startBoth();
  const epochOf = async () => Number((await orchestra.sql<{ epoch: string }[]>`select epoch from hosts where id = 'one'`)[0]?.epoch);
  const epoch = await epochOf();
  stall(0);
  const running = await orchestra.submit('ask', { model: both });
  await answering(running, 'one');
  stall(1);
  one.child.kill('SIGSTOP');
  await answering(running, 'two');
  proxies[0]?.goOn(); // when it wakes it has a whole answer, and the claim of its grant
  one.child.kill('SIGCONT');
  await eventually(async () => (await epochOf()) > epoch, limit);
  await ready('one');
  await runsOn(running, 'two');
  letGoOn();
  expect((await completed(running))?.host).toBe('two');
  expect((await tries(running)).map(({ host, status }) => [host, status])).toEqual([
    ['one', 'void'],
    ['two', 'completed'],
  ]);
  expect((await completed(await orchestra.submit('ask', { model: onOne })))?.host).toBe('one');
  await nothingLeft();
}, 240_000);

test('a second host on the same model server is refused, whatever it calls it, with who has it and what to do; one that the address does not betray is found out by the server’s memory [MODEL-17, fault-32]', async () => {
  const [one, two] = urls();
  startHost('one', one);
  await ready('one');
  const localhost = one.replace('127.0.0.1', 'localhost');
  const [renamed, twin] = await Promise.all([startHost('other', localhost).exit, startHost('one', two).exit]);
  expect(renamed).toMatchObject({
    code: 1,
    printed: expect.stringMatching(
      /^orchestra host: the model server at http:\/\/127\.0\.0\.1:\d+ is managed by host "one" already, and two hosts would undo each other's loads; give host "other" a server of its own with OLLAMA_HOST, or stop host "one"$/m,
    ),
  });
  expect(twin).toMatchObject({
    code: 1,
    printed: expect.stringMatching(/^orchestra host: another process serves as host "one" already; give this one another HOST_ID, or stop the other$/m),
  });
  expect((await listed()).hosts.filter((host) => host.ready).map(({ id }) => id)).toEqual(['one']);

  // As if the second one ran on another machine, where the same server has another address.
  await completed(await orchestra.submit('ask', { model: onOne }));
  await orchestra.sql`update hosts set server = 'another machine' where id = 'one'`;
  const far = startHost('far', localhost);
  await eventually(async () => (await listed()).hosts.some(({ id, why }) => id === 'far' && why?.includes('is managed by host "one" already')), limit);
  expect(await far.exit).toMatchObject({ code: 1 });
  expect((await completed(await orchestra.submit('ask', { model: onOne })))?.host).toBe('one');
  await nothingLeft();
}, 240_000);
