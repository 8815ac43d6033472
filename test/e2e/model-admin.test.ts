import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTinyModel, tinyShape } from '../../activities/backends/server/tiny-model.js';
import type { ExecutionView } from '../../contract/schemas/execution.js';
import type { ModelListView, ModelOrderView } from '../../contract/schemas/model.js';
import { type HttpFaultProxy, startHttpFaultProxy } from '../support/http-fault-proxy.js';
import { type Installation, startInstallation } from '../support/installation.js';
import { type ModelRegistry, startModelRegistry } from '../support/model-registry.js';
import { type OwnOllama, startOwnOllama } from '../support/own-ollama.js';
import { eventually } from '../support/servers.js';

const [first, second] = ['admin-one:latest', 'admin-two:latest'];
const templates = {
  ask: [
    'name: ask',
    'parameters:',
    '  - { name: model, type: string, required: true }',
    'steps:',
    '  - { type: ollama_generate, model: "{{model}}", prompt: hello, options: { num_predict: 8 }, retry: { max_attempts: 2, initial_interval_seconds: 0.1 } }',
  ].join('\n'),
  twice: [
    'name: twice',
    'parameters:',
    '  - { name: model, type: string, required: true }',
    'steps:',
    ...[1, 2].map((n) => `  - { id: s${n}, type: ollama_generate, model: "{{model}}", prompt: hello, options: { num_predict: 8 } }`),
  ].join('\n'),
};
let ollama: OwnOllama;
let proxy: HttpFaultProxy;
let registry: ModelRegistry;
let orchestra: Installation;

beforeAll(async () => {
  ollama = await startOwnOllama();
  proxy = await startHttpFaultProxy(ollama.url);
  registry = await startModelRegistry();
  await createTinyModel(ollama.url, first, { ...tinyShape, seed: 1 });
  await createTinyModel(ollama.url, second, { ...tinyShape, seed: 2 });
  orchestra = await startInstallation({
    models: true,
    templates,
    env: { MODEL_REGISTRIES: `registry.ollama.ai,${registry.host}` },
    through: { ollama: proxy.url },
    ollamaTimeouts: { loadMs: 1_500 },
  });
}, 120_000);
afterAll(async () => {
  await orchestra?.stop();
  await registry?.close();
  await proxy?.close();
  await ollama?.stop();
});

const models = async () => (await orchestra.request('GET', '/api/v1/models')).body as ModelListView;
/** Waits until a model is so. */
const becomes = (name: string, wanted: object) =>
  eventually(async () => {
    expect(await model(name)).toMatchObject(wanted);
    return true;
  });
const model = async (name: string) => (await models()).items.find((item) => item.name === name);
async function ordered(name: string, action: string): Promise<ModelOrderView> {
  const answer = await eventually(async () => {
    const tried = await orchestra.request('POST', `/api/v1/models/${encodeURIComponent(name)}/${action}`, {});
    if (tried.status !== 202) throw new Error(`${tried.status} ${JSON.stringify(tried.body)}`);
    return tried;
  });
  const order = answer.body as ModelOrderView;
  if (order.order_id === null) return order;
  return eventually(async () => {
    const now = (await orchestra.request('GET', `/api/v1/model-orders/${order.order_id}`)).body as ModelOrderView;
    if (now.state === 'open') throw new Error('the order is open');
    return now;
  });
}

test('an administrator loads, unloads and pulls models on the real server, and sees it in the list [MODEL-15, MODEL-04]', async () => {
  expect(await ordered(first, 'load')).toMatchObject({ state: 'done', error: null });
  await becomes(first, { loaded: true, serving: true });
  expect(await ordered(second, 'load')).toMatchObject({ state: 'done' });
  await becomes(second, { loaded: true, serving: true });
  await becomes(first, { loaded: false, serving: false });
  expect(await ordered(second, 'unload')).toMatchObject({ state: 'done' });
  await becomes(second, { loaded: false, serving: false });
  const published = registry.publish('fetched');
  expect(await ordered(published, 'pull')).toMatchObject({ state: 'done', action: 'pull' });
  await becomes(published, { digest: expect.any(String), loaded: false, pull: null });
  expect(await ordered(`${registry.host}/test/absent`, 'pull')).toMatchObject({
    state: 'failed',
    error: { code: expect.stringMatching(/^model_(not_found|pull_failed)$/) },
  });
});

test('a pinned task runs on exactly its weights, and fails at once with both digests on others [MODEL-12, MODEL-13]', async () => {
  const digest = `sha256:${(await model(first))?.digest?.replace(/^sha256:/, '')}`;
  const right = await orchestra.submit('ask', { model: `${first}@${digest}` });
  expect(await orchestra.finished(right.id)).toMatchObject({ status: 'completed', models: [{ name: first, digest }] });
  const other = `sha256:${'0'.repeat(64)}`;
  const wrong = await orchestra.submit('ask', { model: `${first}@${other}` });
  const failed = await orchestra.finished(wrong.id);
  expect(failed).toMatchObject({ status: 'failed', error: { code: 'model_digest_mismatch' } });
  expect(failed.error?.message).toContain(other);
  expect(failed.error?.message).toContain(digest);
  const { items } = (await orchestra.request('GET', `/api/v1/tasks/${wrong.id}/executions`)).body as { items: ExecutionView[] };
  expect(items).toHaveLength(1);
});

test('what the server counted is what the executions, the task and the model have, over several inferences [MODEL-10, TASK-05]', async () => {
  const before = (await model(first))?.usage;
  const { id } = await orchestra.submit('twice', { model: first });
  const task = await orchestra.finished(id);
  const { items } = (await orchestra.request('GET', `/api/v1/tasks/${id}/executions`)).body as { items: ExecutionView[] };
  const metrics = items.map((item) => item.metrics as Record<string, number | string>);
  expect(metrics).toHaveLength(2);
  for (const each of metrics) {
    expect(each).toMatchObject({ inferences: 1, model_name: first, model_digest: expect.any(String) });
    for (const name of ['prompt_tokens', 'output_tokens', 'total_duration_ms', 'load_duration_ms', 'prompt_eval_duration_ms', 'eval_duration_ms'])
      expect(each[name], name).toBeTypeOf('number');
  }
  const sum = (name: string) => metrics.reduce((total, each) => total + Number(each[name]), 0);
  const steps = task.result?.['steps'] as Record<string, { prompt_tokens: number; output_tokens: number }>;
  expect(sum('prompt_tokens')).toBe((steps['s1']?.prompt_tokens ?? 0) + (steps['s2']?.prompt_tokens ?? 0));
  expect(task.resource_usage?.model_name).toBe(first);
  expect(task.resource_usage?.inference_time_seconds).toBeCloseTo(sum('inference_time_seconds'), 6);
  expect(items.every(({ memory_used }) => memory_used !== null && memory_used > 0)).toBe(true);
  const after = (await model(first))?.usage;
  expect((after?.inferences ?? 0) - (before?.inferences ?? 0)).toBe(2);
  expect((after?.output_tokens ?? 0) - (before?.output_tokens ?? 0)).toBe(sum('output_tokens'));
});

test('a model that does not load in time fails its task with model_load_timeout, after its attempts [MODEL-13, TASK-15]', async () => {
  await ordered(first, 'unload');
  proxy.fault('/api/generate', { kind: 'hold' }, 20);
  const { id } = await orchestra.submit('ask', { model: second });
  const failed = await orchestra.finished(id, 55_000);
  proxy.heal();
  expect(failed).toMatchObject({ status: 'failed', error: { code: 'model_load_timeout', attempt: 2 } });
});

test('a model that asks for more memory than there is fails its task with model_out_of_memory at once [MODEL-13, MODEL-09]', async () => {
  proxy.fault(
    '/api/generate',
    { kind: 'answer', status: 500, body: JSON.stringify({ error: 'model requires more system memory (9.9 GiB) than is available (1.0 GiB)' }) },
    20,
  );
  const { id } = await orchestra.submit('ask', { model: first });
  const failed = await orchestra.finished(id, 55_000);
  proxy.heal();
  expect(failed).toMatchObject({ status: 'failed', error: { code: 'model_out_of_memory', attempt: 1 } });
});
