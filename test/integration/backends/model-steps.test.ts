import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ModelBackend } from '../../../activities/backends/backend.js';
import { createOllamaBackend, defaultOllamaTimeouts } from '../../../activities/backends/ollama.js';
import { createTinyModel, tinyShape } from '../../../activities/backends/server/tiny-model.js';
import type { StepContext } from '../../../activities/steps/define-step.js';
import { ollamaAnalyze } from '../../../activities/steps/ollama-analyze.js';
import { ollamaGenerate } from '../../../activities/steps/ollama-generate.js';
import type { Usage } from '../../../contract/line.js';
import { defaultRegistries } from '../../../contract/model-name.js';
import { type OwnOllama, startOwnOllama } from '../../support/own-ollama.js';

const model = 'steps-one:latest';
let server: OwnOllama;
let models: ModelBackend;
const never = new AbortController().signal;

beforeAll(async () => {
  server = await startOwnOllama();
  await createTinyModel(server.url, model, { ...tinyShape, endless: true, seed: 41 });
  models = createOllamaBackend({
    address: server.url,
    registries: defaultRegistries,
    allowPull: false,
    timeouts: defaultOllamaTimeouts,
    log: pino({ level: 'silent' }),
  });
});
afterAll(() => server.stop());

function stepContext(previous: StepContext['previous'] = null) {
  const records: Usage[] = [];
  const context = {
    signal: never,
    previous,
    limits: { outputBytes: 1_000_000 },
    models,
    output() {},
    progress() {},
    record: (usage: Usage) => void records.push(usage),
  } as unknown as StepContext;
  return { context, records };
}

test('a model answers with text, counts, digest and memory [TPL-06] [TPL-11] [MODEL-10]', async () => {
  const { context, records } = stepContext();
  const output = await ollamaGenerate.run({ model, prompt: 'hello', system: 'be brief', options: { num_predict: 5, seed: 1, temperature: 1.5 } }, context);
  expect(output).toMatchObject({ model, output_tokens: 5, finish: 'length' });
  expect(output.prompt_tokens).toBeGreaterThan('hello'.length);
  expect(records.at(-1)).toEqual({ modelDigest: expect.stringMatching(/^[0-9a-f]{64}$/), memoryUsedGb: expect.any(Number) });
});

test('a system text is part of what the model reads', async () => {
  const ask = async (system?: string) =>
    (await ollamaGenerate.run({ model, prompt: 'hello', ...(system === undefined ? {} : { system }), options: { num_predict: 2 } }, stepContext().context))
      .prompt_tokens;
  expect(await ask('a longer instruction')).toBeGreaterThan(await ask());
});

test('a JSON Schema is followed, and the answer comes parsed', async () => {
  const format = { type: 'object', properties: { colour: { enum: ['red', 'blue'] } }, required: ['colour'], additionalProperties: false };
  const output = await ollamaGenerate.run(
    { model, prompt: 'which colour?', format, options: { num_predict: 500, temperature: 0.5, seed: 1 } },
    stepContext().context,
  );
  expect(output.json).toEqual({ colour: expect.stringMatching(/^(red|blue)$/) });
});

test('ten files are ten inferences on one load [TPL-07] [TPL-13]', async () => {
  await models.load({ name: model, numCtx: 4096 }, 600_000, never);
  const runners = await server.runners();
  const files = Array.from({ length: 10 }, (_, index) => ({ path: `f${index}.txt`, content: `content ${index}`, size_bytes: 9, encoding: 'utf-8' }));
  const { context, records } = stepContext({ files });
  const output = await ollamaAnalyze.run({ model, options: { num_predict: 3, seed: 1 } }, context);
  expect(output.analyses.map((each) => each.path)).toEqual(files.map((each) => each.path));
  expect(records.filter((each) => each.metrics !== undefined)).toHaveLength(10);
  // A load is a new process, so the same one answered all ten.
  expect(runners).toHaveLength(1);
  expect(await server.runners()).toEqual(runners);
});
