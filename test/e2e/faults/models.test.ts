import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { createTinyModel, tinyShape } from '../../../activities/backends/server/tiny-model.js';
import type { TaskView } from '../../../contract/schemas/task.js';
import { startFaultProxy, type FaultProxy } from '../../support/fault-proxy.js';
import { type HttpFaultProxy, startHttpFaultProxy } from '../../support/http-fault-proxy.js';
import { type Installation, startInstallation } from '../../support/installation.js';
import { leftBehind } from '../../support/left-behind.js';
import { type OwnOllama, startOwnOllama } from '../../support/own-ollama.js';
import { eventually, temporalAddress } from '../../support/servers.js';

const model = 'fault-endless:latest';
const tokens = 40;
/** enough that a kill hits the answer in its middle */
const longTokens = 600;
const ask = (name: string, count: number) =>
  [
    `name: ${name}`,
    'description: Ask the model for an answer of a known length',
    'parameters:',
    '  - { name: prompt, type: string, required: true }',
    'steps:',
    '  - type: ollama_generate',
    `    model: "${model}"`,
    '    prompt: "{{prompt}}"',
    `    options: { num_predict: ${count}, temperature: 1.5, seed: 1 }`,
    '    retry: { max_attempts: 3, initial_interval_seconds: 0.1, max_interval_seconds: 0.2 }',
  ].join('\n');
const templates = {
  ask: ask('ask', tokens),
  'ask-long': ask('ask-long', longTokens),
  plain: ['name: plain', 'description: No model', 'steps:', '  - { type: format_output, format: text, data: "done" }'].join('\n'),
};

let ollama: OwnOllama;
let proxy: HttpFaultProxy;
let temporal: FaultProxy;
let orchestra: Installation;

beforeAll(async () => {
  ollama = await startOwnOllama();
  await createTinyModel(ollama.url, model, { ...tinyShape, endless: true, seed: 7 });
  proxy = await startHttpFaultProxy(ollama.url);
  const [host = '', port] = temporalAddress().split(':');
  temporal = await startFaultProxy({ host, port: Number(port) });
  orchestra = await startInstallation({
    models: true,
    templates,
    through: { ollama: proxy.url, temporal: `127.0.0.1:${temporal.port}` },
    ollamaTimeouts: { idleMs: 4_000 },
  });
}, 180_000);
afterAll(async () => {
  await orchestra?.stop();
  await temporal?.close();
  await proxy?.close();
  await ollama?.stop();
});
/** Each test begins with the model resident, so that a fault meets an answer and no load. */
beforeEach(async () => {
  proxy.heal();
  await orchestra.finished((await orchestra.submit('ask', { prompt: 'warm' })).id, 60_000);
}, 90_000);

const prompts = (prompt: string) => proxy.requests.filter(({ path, body }) => path === '/api/generate' && body.includes(`"${prompt}"`)).length;
const asked = (prompt: string, times = 1) => eventually(() => prompts(prompt) >= times);

/** The task is done, with one whole answer and these failures before it; nothing is left of it. */
async function isDoneAfter(task: TaskView, failures: readonly string[], outputTokens = tokens): Promise<void> {
  expect(await orchestra.finished(task.id, 60_000)).toMatchObject({ status: 'completed', error: null });
  const executions = await orchestra.sql`
    select status, error ->> 'code' as code, output from task_executions where task_id = ${task.id} and status <> 'void' order by started_at`;
  expect(executions.map((row) => row['code'] ?? row['status'])).toEqual([...failures, 'completed']);
  for (const row of executions.slice(0, -1)) expect(row['output']).toBeNull();
  expect(executions.at(-1)?.['output']).toMatchObject({ output_tokens: outputTokens });
  await eventually(async () => {
    expect(await leftBehind(orchestra.sql, orchestra.config.files.workspacesRoot)).toEqual([]);
    expect(proxy.underWay()).toBe(0);
    return true;
  });
}

test('kill -9 of Ollama mid-answer: half an answer is never a result, other work goes on, and model work resumes when it is back [fault-23, MODEL-14]', async () => {
  proxy.fault('/api/generate', { kind: 'stall', afterLines: 5 }, 1);
  const hit = await orchestra.submit('ask', { prompt: 'killed' });
  await eventually(() => proxy.stalled() === 1);
  const queued = await orchestra.submit('ask', { prompt: 'queued' });
  await ollama.kill();
  proxy.breakOff(); // the server may have said the rest to the proxy already
  await eventually(async () => (await orchestra.request('GET', '/api/v1/health')).body.checks.ollama.status === 'down');
  expect(await orchestra.finished((await orchestra.submit('plain', {})).id)).toMatchObject({ status: 'completed' });
  expect(await orchestra.task(queued.id)).toMatchObject({ status: 'queued' });
  await ollama.start();
  await isDoneAfter(queued, []);
  await isDoneAfter(hit, ['backend_unavailable']);
  expect(await orchestra.sql`select 1 from task_executions where task_id = ${queued.id}`).toHaveLength(1);
}, 120_000);

test('kill -9 of the process that holds the model alone: the step is tried again and its answer is whole [fault-24]', async () => {
  const task = await orchestra.submit('ask-long', { prompt: 'runner' });
  await asked('runner');
  for (const runner of await ollama.runners()) process.kill(runner, 'SIGKILL');
  const code = await eventually(
    async () => (await orchestra.sql`select error ->> 'code' as code from task_executions where task_id = ${task.id}`)[0]?.['code'],
  );
  expect(['backend_failed', 'backend_unavailable']).toContain(code);
  await isDoneAfter(task, [String(code)], longTokens);
}, 120_000);

test('an answer that stalls with its connection open ends by the idle limit, frees the server and is tried again [fault-25]', async () => {
  proxy.fault('/api/generate', { kind: 'stall', afterLines: 5 }, 1);
  const task = await orchestra.submit('ask', { prompt: 'stalled' });
  await asked('stalled', 2);
  await isDoneAfter(task, ['timeout']);
}, 120_000);

test('a server that says it is full is asked again, at the cost of no attempt [fault-26]', async () => {
  proxy.fault(
    '/api/generate',
    { kind: 'answer', status: 503, body: JSON.stringify({ error: 'server busy, please try again.  maximum pending requests exceeded' }) },
    2,
  );
  const task = await orchestra.submit('ask', { prompt: 'full' });
  await asked('full', 3);
  await isDoneAfter(task, []);
}, 120_000);

test('each part that is away flips its own check of the health and no other [OBS-05]', async () => {
  // The machine's own load is no part of it.
  const states = async () => {
    const { checks } = (await orchestra.request('GET', '/api/v1/health')).body;
    return {
      ollama: checks.ollama.status,
      temporal: checks.temporal_connection.status,
      engine: checks.engine.status,
      database: checks.database_connection.status,
    };
  };
  const well = { ollama: 'ok', temporal: 'ok', engine: 'ok', database: 'ok' };
  const become = (expected: object) =>
    eventually(async () => {
      expect(await states()).toEqual(expected);
      return true;
    });
  await become(well);
  temporal.fault({ kind: 'refuse' });
  temporal.cutAll();
  await become({ ...well, temporal: 'down' });
  temporal.heal();
  await become(well);
  await ollama.kill();
  await become({ ...well, ollama: 'down' });
  await ollama.start();
  await become(well);
  await orchestra.engine.stop();
  await become({ ...well, engine: 'down' });
  await orchestra.addEngine();
  await become(well);
}, 120_000);
