import { describe, expect, test } from 'vitest';
import type { ChatRequest, GenerateRequest, GenerateResult, ModelBackend } from '../../../activities/backends/backend.js';
import { ollamaChat } from '../../../activities/steps/ollama-chat.js';
import { ollamaGenerate } from '../../../activities/steps/ollama-generate.js';
import { StepFailure } from '../../../contract/failure.js';
import { addUsage } from '../../../activities/usage.js';
import { createMemoryBackend } from '../../support/memory-backend.js';
import { modelStepContext } from '../../support/model-step-context.js';

const model = 'one:latest';
const schema = { type: 'object', properties: { stars: { type: 'integer', minimum: 1, maximum: 5 } }, required: ['stars'], additionalProperties: false };
const fine = '{"stars": 4}';
const outOfRange = '{"stars": 9}';

/** A backend that gives these answers in this order, and keeps what it was asked. */
function scripted(...answers: readonly (string | StepFailure)[]) {
  const left = [...answers];
  const asked: (GenerateRequest | ChatRequest)[] = [];
  const answer = async (request: GenerateRequest | ChatRequest): Promise<GenerateResult> => {
    asked.push(request);
    const text = left.shift();
    if (text === undefined) throw new Error('the model was asked once too often');
    if (text instanceof StepFailure) throw text;
    return { text, finish: text.endsWith('}') ? 'stop' : 'length', promptTokens: 10, outputTokens: 3, totalMs: 1, loadMs: 0, promptMs: 0, outputMs: 1 };
  };
  const models: ModelBackend = { ...createMemoryBackend([model]), generate: answer, chat: answer };
  return { asked, ...modelStepContext(models) };
}
const textOf = (request: GenerateRequest | ChatRequest | undefined) => JSON.stringify(request && 'prompt' in request ? request.prompt : request?.messages);

describe('ollama_generate with a schema', () => {
  test('gives the text, its JSON and that no repair was needed', async () => {
    const { context, asked } = scripted(fine);
    expect(await ollamaGenerate.run({ model, prompt: 'rate it', format: schema }, context)).toEqual({
      text: fine,
      model,
      prompt_tokens: 10,
      output_tokens: 3,
      finish: 'stop',
      json: { stars: 4 },
      repairs: 0,
    });
    expect(asked).toHaveLength(1);
  });

  test('asks once more by default, with the faulty answer and its faults, and counts both inferences', async () => {
    const { context, asked, records } = scripted(outOfRange, fine);
    const output = await ollamaGenerate.run({ model, prompt: 'rate it', system: 'be fair', format: schema, options: { temperature: 0 } }, context);
    expect(output).toMatchObject({ text: fine, json: { stars: 4 }, repairs: 1, prompt_tokens: 20, output_tokens: 6 });
    const again = textOf(asked[1]);
    expect(asked[1]).toMatchObject({ system: 'be fair', format: schema, options: { temperature: 0 } });
    expect(again).toContain('rate it');
    expect(again).toContain('{\\"stars\\": 9}');
    expect(again).toMatch(/stars: [^"]*5/);
    expect(again).toContain('maximum');
    expect(records.reduce(addUsage, {}).metrics).toMatchObject({ inferences: 2, prompt_tokens: 20, output_tokens: 6 });
  });

  test('fails as invalid_model_answer, worth another attempt, with faults and head of the answer when the repairs are used up', async () => {
    const long = `{"stars": "${'x'.repeat(10_000)}`;
    const { context, asked, records } = scripted(outOfRange, fine.slice(0, 5), long);
    await expect(ollamaGenerate.run({ model, prompt: 'rate it', format: schema, repair_attempts: 2 }, context)).rejects.toMatchObject({
      code: 'invalid_model_answer',
      retryable: true,
      message: expect.stringContaining('cut off'),
      details: { faults: [expect.stringContaining('cut off')], answer: long.slice(0, 500), finish: 'length', repairs: 2 },
    });
    expect(asked).toHaveLength(3);
    expect(records.filter(({ metrics }) => metrics !== undefined)).toHaveLength(3);
  });

  test('is not asked again with repair_attempts: 0', async () => {
    const { context, asked } = scripted(outOfRange);
    await expect(ollamaGenerate.run({ model, prompt: 'rate it', format: schema, repair_attempts: 0 }, context)).rejects.toMatchObject({
      code: 'invalid_model_answer',
      details: { repairs: 0 },
    });
    expect(asked).toHaveLength(1);
  });

  test('shows the model at most the head of a faulty answer', async () => {
    const { context, asked } = scripted(`"${'y'.repeat(50_000)}`, fine);
    await ollamaGenerate.run({ model, prompt: 'rate it', format: schema }, context);
    expect(textOf(asked[1]).length).toBeLessThan(5_000);
  });

  test('that cannot ask again since the repair does not fit the context fails with the faults, not with the limit', async () => {
    const tooLong = new StepFailure('limit_exceeded', 'does not fit the context', { retryable: false });
    const { context } = scripted(outOfRange, tooLong);
    await expect(ollamaGenerate.run({ model, prompt: 'rate it', format: schema }, context)).rejects.toMatchObject({
      code: 'invalid_model_answer',
      message: expect.stringContaining('does not fit the context'),
    });
  });

  test('passes on every other failure of a repair as it is', async () => {
    const away = new StepFailure('backend_unavailable', 'gone', { retryable: true });
    const { context } = scripted(outOfRange, away);
    await expect(ollamaGenerate.run({ model, prompt: 'rate it', format: schema }, context)).rejects.toBe(away);
  });

  test('json asks for JSON of any shape', async () => {
    const { context } = scripted('[1, 2}', '{"a": [1]}');
    expect(await ollamaGenerate.run({ model, prompt: 'list', format: 'json' }, context)).toMatchObject({ json: { a: [1] }, repairs: 1 });
  });

  test.each([
    ['a broken schema', { type: 'text' }, 'type'],
    ['a schema elsewhere', { properties: { a: { $ref: 'https://evil.example/x' } } }, 'place in this schema'],
    ['a pattern that is none', { properties: { a: { pattern: '(' } } }, 'regular expression'],
  ])('%s is refused by the step itself, at its place', (_, format, text) => {
    const parsed = ollamaGenerate.input.safeParse({ model, prompt: 'p', format });
    expect(JSON.stringify(parsed.error?.issues)).toContain(text);
  });
});

describe('ollama_chat with a schema', () => {
  const messages = [
    { role: 'system' as const, content: 'be fair' },
    { role: 'user' as const, content: 'rate it' },
  ];

  test('goes on in the conversation when it asks again', async () => {
    const { context, asked } = scripted(outOfRange, fine);
    const output = await ollamaChat.run({ model, messages, format: schema }, context);
    expect(output).toMatchObject({ text: fine, message: { role: 'assistant', content: fine }, json: { stars: 4 }, repairs: 1, prompt_tokens: 20 });
    const again = asked[1];
    expect(again && 'messages' in again && again.messages).toEqual([
      ...messages,
      { role: 'assistant', content: outOfRange },
      { role: 'user', content: expect.stringMatching(/stars: .*5/) },
    ]);
  });

  test('fails as ollama_generate does', async () => {
    const { context } = scripted(outOfRange, outOfRange);
    await expect(ollamaChat.run({ model, messages, format: schema }, context)).rejects.toMatchObject({ code: 'invalid_model_answer', details: { repairs: 1 } });
  });
});
