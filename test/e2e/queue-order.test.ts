import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { createTinyModel, tinyShape } from '../../activities/backends/server/tiny-model.js';
import { defineStep, type StepDefinition } from '../../activities/steps/define-step.js';
import type { QueueView } from '../../contract/schemas/queue.js';
import { createGates } from '../support/gate-step.js';
import { type Installation, startInstallation } from '../support/installation.js';
import { type MainProcess, startMain } from '../support/main-process.js';
import { type OwnOllama, startOwnOllama } from '../support/own-ollama.js';
import { eventually, temporalAddress } from '../support/servers.js';

const models = { a: 'order-a:latest', b: 'order-b:latest', c: 'order-c:latest' };
const gates = createGates();
/** A gate that stands in front of a model. */
const modelGate = defineStep({
  type: 'model_gate',
  summary: 'Wait on a model until the test opens a gate.',
  input: z.object({ model: z.string(), name: z.string(), options: z.object({ num_ctx: z.number() }) }),
  output: z.object({ name: z.string(), text: z.string() }),
  policy: { pool: 'model', startToCloseMs: 180_000, attempts: 1 },
  example: '- { type: model_gate, model: m, name: first, options: { num_ctx: 512 } }',
  run: ({ name }, context) => gates.step.run({ name }, context) as Promise<{ name: string; text: string }>,
}) as unknown as StepDefinition;
const template = [
  'name: held',
  'description: Wait on a model',
  'parameters:',
  '  - { name: model, type: string, required: true }',
  '  - { name: gate, type: string, required: true }',
  'steps:',
  '  - { type: model_gate, model: "{{model}}", name: "{{gate}}", options: { num_ctx: 512 } }',
].join('\n');

let ollama: OwnOllama;
let orchestra: Installation;
let engine: MainProcess;

const startEngine = async () => {
  engine = startMain('engine', orchestra.config.home, {
    DATABASE_URL: orchestra.database.url,
    TEMPORAL_ADDRESS: temporalAddress(),
    TEMPORAL_NAMESPACE: orchestra.config.temporal.namespace,
  });
  await engine.ready();
};

beforeAll(async () => {
  ollama = await startOwnOllama();
  for (const [index, name] of Object.values(models).entries()) await createTinyModel(ollama.url, name, { ...tinyShape, seed: index + 1 });
  orchestra = await startInstallation({
    engine: false,
    models: true,
    steps: [modelGate],
    templates: { held: template },
    env: { MODEL_MAX_LOADED: '1' },
    through: { ollama: ollama.url },
  });
  await startEngine();
}, 240_000);
afterAll(async () => {
  await engine?.stop();
  await orchestra?.stop();
  await ollama?.stop();
});

const submit = async (model: string, gate: string, priority: number) => (await orchestra.submit('held', { model, gate }, { priority, name: gate })).id;
const queue = async () => (await orchestra.request('GET', '/api/v1/queue')).body as QueueView;

/** Names of what waits, in the order of a forecast that was made after `since` and knows of all of them. */
const shown = (count: number, since: number) =>
  eventually(
    async () => {
      const { items, made_at: madeAt } = await queue();
      if (items.length !== count || Date.parse(madeAt ?? '') < since || items.some(({ estimated_start_time: start }) => start === null)) return null;
      return items.map(({ name }) => name ?? '');
    },
    { timeoutMs: 60_000 },
  );
const hasArrived = (name: string) => eventually(() => gates.arrived.includes(name), { timeoutMs: 60_000 });

// Every change of models is due to urgent work, or to nothing being left for the one that is loaded, so that the order does not depend on how long anything takes.
const waiting = [
  [models.a, 'a5', 5],
  [models.c, 'c2', 2],
  [models.b, 'b8', 8],
  [models.c, 'c10', 10],
  [models.a, 'a3', 3],
  [models.b, 'b6', 6],
  [models.b, 'b9', 9],
] as const;

test('steps of several models start in exactly the order that the queue showed, also when the engine is killed on the way [SCHED-22]', async () => {
  const ids = [await submit(models.a, 'first', 5)];
  await hasArrived('first');
  for (const [model, gate, priority] of waiting) ids.push(await submit(model, gate, priority));
  const order = await shown(waiting.length, Date.now());
  expect(order.toSorted()).toEqual(waiting.map(([, gate]) => gate).toSorted());

  // The fourth is on its model when the engine goes; the next engine shows the rest as it was shown before.
  const [held = '', ...rest] = order.slice(3);
  for (const gate of ['first', ...order]) if (gate !== held) gates.open(gate);
  await hasArrived(held);
  await engine.kill();
  const killedAt = Date.now();
  await startEngine();
  expect(await shown(rest.length, killedAt)).toEqual(rest);
  gates.open(held);
  for (const id of ids) expect(await orchestra.finished(id, 60_000)).toMatchObject({ status: 'completed', attempt: 1 });
  expect(gates.arrived).toEqual(['first', ...order]);
  const loaded = await orchestra.sql<{ model: string }[]>`select load_model as model from residency_orders where state = 'done' order by created_at`;
  expect(loaded.map(({ model }) => model)).toEqual([models.a, models.c, models.b, models.a, models.c]);
}, 240_000);
