import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ModelBackend } from '../../../activities/backends/backend.js';
import { createOllamaBackend, defaultOllamaTimeouts } from '../../../activities/backends/ollama.js';
import { createTinyModel, tinyShape } from '../../../activities/backends/server/tiny-model.js';
import type { StepContext } from '../../../activities/steps/define-step.js';
import { ollamaAnalyze } from '../../../activities/steps/ollama-analyze.js';
import { ollamaChat } from '../../../activities/steps/ollama-chat.js';
import { ollamaEmbed } from '../../../activities/steps/ollama-embed.js';
import { ollamaGenerate } from '../../../activities/steps/ollama-generate.js';
import { addUsage } from '../../../activities/usage.js';
import { defaultRegistries } from '../../../contract/model-name.js';
import { pngOf } from '../../support/images.js';
import { modelStepContext } from '../../support/model-step-context.js';
import { type OwnOllama, startOwnOllama } from '../../support/own-ollama.js';

const model = 'steps-one:latest';
const embedder = 'steps-embedder:latest';
let server: OwnOllama;
let models: ModelBackend;
const never = new AbortController().signal;

beforeAll(async () => {
  server = await startOwnOllama();
  await createTinyModel(server.url, model, { ...tinyShape, endless: true, seed: 41 });
  await createTinyModel(server.url, embedder, { ...tinyShape, embedsOnly: true, contextLength: 512 });
  models = createOllamaBackend({
    address: server.url,
    registries: defaultRegistries,
    allowPull: false,
    timeouts: defaultOllamaTimeouts,
    log: pino({ level: 'silent' }),
  });
});
afterAll(() => server.stop());

const stepContext = (previous: StepContext['previous'] = null, changes: Partial<StepContext> = {}) => modelStepContext(models, { previous, ...changes });

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

test('what constrained decoding does not hold a model to is checked, and told after the repairs with every inference counted [bad-45]', async () => {
  // No word is long enough for this answer, and the server's grammar knows nothing of multiples.
  const format = {
    type: 'object',
    properties: { n: { type: 'integer', minimum: 1, maximum: 9, multipleOf: 10 } },
    required: ['n'],
    additionalProperties: false,
  };
  const { context, records } = stepContext();
  const run = ollamaGenerate.run({ model, prompt: 'a number', format, repair_attempts: 2, options: { num_predict: 200, temperature: 0.5, seed: 1 } }, context);
  await expect(run).rejects.toMatchObject({
    code: 'invalid_model_answer',
    retryable: true,
    details: { faults: [expect.stringMatching(/^n: .*multiple/)], answer: expect.stringContaining('"n"'), repairs: 2 },
  });
  expect(records.reduce(addUsage, {}).metrics).toMatchObject({ inferences: 3 });
});

test('an answer that is cut off by its tokens is invalid, not half a result [bad-45]', async () => {
  const format = { type: 'array', items: { type: 'string' }, minItems: 50 };
  const run = ollamaGenerate.run({ model, prompt: 'many', format, options: { num_predict: 5, seed: 1 } }, stepContext().context);
  await expect(run).rejects.toMatchObject({
    code: 'invalid_model_answer',
    message: expect.stringContaining('cut off'),
    details: { finish: 'length', repairs: 1 },
  });
});

test('a conversation is answered, by schema too, and its messages are all read [TPL-06]', async () => {
  const { context, records } = stepContext();
  const messages = [
    { role: 'system' as const, content: 'be brief' },
    { role: 'user' as const, content: 'hello' },
  ]; // prettier-ignore
  const options = { num_predict: 5, seed: 1, temperature: 1.5 };
  const output = await ollamaChat.run({ model, messages, options }, context);
  expect(output).toMatchObject({ model, output_tokens: 5, finish: 'length', message: { role: 'assistant', content: output.text } });
  const longer = await ollamaChat.run({ model, messages: [...messages, output.message, { role: 'user', content: 'go on' }], options }, context);
  expect(longer.prompt_tokens).toBeGreaterThan(output.prompt_tokens);
  expect(records.at(-1)).toEqual({ modelDigest: expect.stringMatching(/^[0-9a-f]{64}$/), memoryUsedGb: expect.any(Number) });
  const format = { type: 'object', properties: { ok: { type: 'boolean' } }, required: ['ok'], additionalProperties: false };
  const formatted = await ollamaChat.run({ model, messages, format, options: { num_predict: 500, temperature: 0.5, seed: 1 } }, context);
  expect(formatted).toMatchObject({ json: { ok: expect.any(Boolean) }, repairs: 0 });
});

test.each([
  ['a model that answers too', model, 4096],
  ['a model that only embeds', embedder, 4096],
])('texts become vectors with %s, which is loaded once, by the host, and unloaded like every other', async (_, name, numCtx) => {
  const loaded = await models.load({ name, numCtx }, 600_000, never);
  expect(loaded.name).toBe(name);
  const runners = await server.runners();
  const { context, records } = stepContext();
  const texts = Array.from({ length: 40 }, (__, index) => `text ${index}`);
  const output = await ollamaEmbed.run({ model: name, input: texts, options: { num_ctx: numCtx } }, context);
  expect(output).toMatchObject({ count: 40, dimensions: tinyShape.width, model: name });
  expect(await server.runners()).toEqual(runners);
  expect(records.reduce(addUsage, {})).toMatchObject({
    modelDigest: loaded.digest,
    metrics: { inferences: 2, embeddings: 40, prompt_tokens: output.prompt_tokens },
  });
  await models.unload(name, never);
  expect(await models.loaded(never)).toEqual([]);
});

test.each([
  ['longer than what the model was made for', embedder, 'word '.repeat(1000)],
  ['longer than the context', model, 'word '.repeat(5000)],
])('a text to embed that is %s is refused with the numbers, never cut [bad-43]', async (_, name, text) => {
  await expect(ollamaEmbed.run({ model: name, input: ['short', text] }, stepContext().context)).rejects.toMatchObject({
    code: 'limit_exceeded',
    retryable: false,
    message: expect.stringMatching(new RegExp(`${text.length} characters .* num_ctx is 4096`)),
    details: { limit: 'num_ctx', num_ctx: 4096 },
  });
});

test('a model that only embeds is asked for no text', async () => {
  const { context } = stepContext();
  await expect(ollamaGenerate.run({ model: embedder, prompt: 'hello' }, context)).rejects.toMatchObject({ code: 'model_lacks_completion', retryable: false });
  const messages = [{ role: 'user' as const, content: 'hello' }];
  await expect(ollamaChat.run({ model: embedder, messages }, context)).rejects.toMatchObject({ code: 'model_lacks_completion', retryable: false });
});

test('an image for a model that cannot see fails by name, on its own and in a conversation [bad-42]', async () => {
  const { context } = stepContext();
  const images = [{ path: 'a.png', content: pngOf(8, 8).toString('base64'), encoding: 'base64' as const }];
  await expect(ollamaGenerate.run({ model, prompt: 'what is it?', images }, context)).rejects.toMatchObject({ code: 'model_lacks_vision', retryable: false });
  const messages = [{ role: 'user' as const, content: 'what is it?', images }];
  await expect(ollamaChat.run({ model, messages }, context)).rejects.toMatchObject({ code: 'model_lacks_vision', retryable: false });
});

test('thinking asked of a model that only answers fails by name, and turned off it is no matter', async () => {
  const { context } = stepContext();
  const options = { num_predict: 3, seed: 1 };
  await expect(ollamaGenerate.run({ model, prompt: 'hello', think: true, options }, context)).rejects.toMatchObject({ code: 'model_lacks_thinking' });
  expect(await ollamaGenerate.run({ model, prompt: 'hello', think: false, options }, context)).toMatchObject({ output_tokens: 3 });
});

test.each(['</s>', '<s></s><unk>', '[img-0]', '\u{1f600}', '\ud800'])(
  'a prompt of nothing but %j is read and answered, its tokens counted [bad-43]',
  async (prompt) => {
    const output = await ollamaGenerate.run({ model, prompt, options: { num_predict: 4, seed: 1, temperature: 1.5 } }, stepContext().context);
    expect(output.prompt_tokens).toBeGreaterThan(0);
    expect(output.output_tokens).toBe(4);
  },
);
