import { describe, expect, test } from 'vitest';
import type { ModelBackend } from '../../../activities/backends/backend.js';
import { ollamaChat } from '../../../activities/steps/ollama-chat.js';
import { ollamaEmbed } from '../../../activities/steps/ollama-embed.js';
import { addUsage } from '../../../activities/usage.js';
import { createMemoryBackend } from '../../support/memory-backend.js';
import { modelStepContext } from '../../support/model-step-context.js';

const model = 'one:latest';
const user = (content: string) => ({ role: 'user' as const, content });

describe('ollama_chat', () => {
  const accepts = (input: object) => ollamaChat.input.safeParse({ model, messages: [user('hello')], ...input }).success;

  test.each([
    ['no message', { messages: [] }],
    ['no message of the user', { messages: [{ role: 'system', content: 'be brief' }] }],
    ['blank messages', { messages: [user(' '), user('')] }],
    ['a role that there is not', { messages: [{ role: 'tool', content: 'x' }] }],
    ['a message with NUL', { messages: [user('a\0b')] }],
    ['a message with more than a message has', { messages: [{ ...user('x'), tool_calls: [] }] }],
    ['endless messages', { messages: Array.from({ length: 1001 }, () => user('x')) }],
    ['tools', { tools: [] }],
    ['a prompt', { prompt: 'x' }],
    ['keep_alive', { keep_alive: -1 }],
    ['a context of a billion tokens', { options: { num_ctx: 1e9 } }],
    ['a model elsewhere', { model: 'http://169.254.169.254/a/b' }],
  ])('%s is refused [bad-40] [bad-42] [bad-43]', (_, input) => {
    expect(accepts(input)).toBe(false);
  });

  test('answers a conversation with a message that can be added to it', async () => {
    const { context, records } = modelStepContext(createMemoryBackend([model]));
    const messages = [{ role: 'system' as const, content: 'be brief' }, user('hello')];
    const output = await ollamaChat.run({ model: 'one', messages, options: { num_predict: 4 } }, context);
    expect(output).toEqual({
      text: expect.any(String),
      message: { role: 'assistant', content: output.text },
      model,
      prompt_tokens: 3,
      output_tokens: 4,
      finish: 'length',
    });
    expect(ollamaChat.input.safeParse({ model, messages: [...messages, output.message, user('go on')] }).success).toBe(true);
    expect(records.reduce(addUsage, {})).toMatchObject({ modelName: model, modelDigest: expect.any(String), metrics: { inferences: 1, output_tokens: 4 } });
  });

  test('all messages together count for the limit of a prompt [bad-43]', async () => {
    const { context } = modelStepContext(createMemoryBackend([model]), {}, { promptChars: 9 });
    await expect(ollamaChat.run({ model, messages: [user('hello'), user('hello')] }, context)).rejects.toMatchObject({
      code: 'limit_exceeded',
      retryable: false,
    });
  });

  test('hands on what the model thought, apart from its answer, and how hard it was to think', async () => {
    const memory = createMemoryBackend([model]);
    const asked: unknown[] = [];
    const models: ModelBackend = {
      ...memory,
      async chat({ think, ...request }) {
        asked.push(think);
        return { ...(await memory.chat(request)), thinking: 'hmm' };
      },
    };
    const { context } = modelStepContext(models);
    expect(await ollamaChat.run({ model, messages: [user('hello')], think: 'low', options: { num_predict: 2 } }, context)).toMatchObject({ thinking: 'hmm' });
    await ollamaChat.run({ model, messages: [user('hello')], options: { num_predict: 2 } }, context);
    expect(asked).toEqual(['low', undefined]);
  });

  test('thinking asked of a model that only answers is a failure for good', async () => {
    const run = ollamaChat.run({ model, messages: [user('hello')], think: true }, modelStepContext(createMemoryBackend([model])).context);
    await expect(run).rejects.toMatchObject({ code: 'model_lacks_thinking', retryable: false });
  });
});

describe('ollama_embed', () => {
  const accepts = (input: object) => ollamaEmbed.input.safeParse({ model, input: 'text', ...input }).success;

  test.each([
    ['an empty text', { input: '' }],
    ['an empty list', { input: [] }],
    ['a list with an empty text', { input: ['x', ''] }],
    ['a text with NUL', { input: 'a\0b' }],
    ['a number', { input: 5 }],
    ['more texts than any step may have', { input: Array.from({ length: 10_001 }, () => 'x') }],
    ['0 dimensions', { dimensions: 0 }],
    ['an option that embedding does not have', { options: { temperature: 1 } }],
    ['truncate', { truncate: true }],
  ])('%s is refused [bad-42] [bad-43]', (_, input) => {
    expect(accepts(input)).toBe(false);
  });

  test('gives one vector a text, in order, over as many requests as it takes', async () => {
    const memory = createMemoryBackend([model]);
    const sizes: number[] = [];
    const models: ModelBackend = { ...memory, embed: (request) => (sizes.push(request.input.length), memory.embed(request)) };
    const { context, records } = modelStepContext(models);
    const texts = Array.from({ length: 70 }, (_, index) => `text ${index}`);
    const output = await ollamaEmbed.run({ model, input: texts, options: { num_ctx: 4096 } }, context);
    expect(output).toMatchObject({ count: 70, dimensions: 8, model, prompt_tokens: 140 });
    const single = await ollamaEmbed.run({ model, input: 'text 69' }, context);
    expect(single.embeddings).toEqual([output.embeddings[69]]);
    expect(sizes).toEqual([32, 32, 6, 1]);
    expect(records.reduce(addUsage, {})).toMatchObject({ modelName: model, metrics: { inferences: 4, embeddings: 71, prompt_tokens: 142 } });
  });

  test('more texts than the installation allows are refused before the model is asked', async () => {
    const backend = createMemoryBackend([model]);
    const { context } = modelStepContext(backend, {}, { embedInputs: 2 });
    await expect(ollamaEmbed.run({ model, input: ['a', 'b', 'c'] }, context)).rejects.toMatchObject({
      code: 'limit_exceeded',
      details: { limit: 'embed_inputs' },
    });
    expect(backend.loads()).toBe(0);
  });

  test('vectors that cannot be kept end the step after its first request, with how many would fit', async () => {
    let requests = 0;
    const models: ModelBackend = {
      ...createMemoryBackend([model]),
      async embed({ input }) {
        requests += 1;
        return { embeddings: input.map(() => Array.from({ length: 4096 }, () => 0.015625)), promptTokens: 1, totalMs: 1, loadMs: 0 };
      },
    };
    const { context } = modelStepContext(models, {}, { outputBytes: 100 * 1024 ** 2 });
    const run = ollamaEmbed.run({ model, input: Array.from({ length: 500 }, () => 'x') }, context);
    await expect(run).rejects.toMatchObject({
      code: 'limit_exceeded',
      retryable: false,
      message: expect.stringMatching(/500 vectors of 4096 numbers .* at most 2097152 .* about 56 texts/),
    });
    expect(requests).toBe(1);
  });
});
