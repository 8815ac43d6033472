import fc from 'fast-check';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ModelBackend } from '../../../activities/backends/backend.js';
import { createOllamaBackend, defaultOllamaTimeouts } from '../../../activities/backends/ollama.js';
import { imageHeader, isWhole } from '../../../activities/steps/image-content.js';
import { ollamaChat } from '../../../activities/steps/ollama-chat.js';
import { ollamaGenerate } from '../../../activities/steps/ollama-generate.js';
import { defaultRegistries } from '../../../contract/model-name.js';
import { greyJpeg, pngOf, webpHeader } from '../../support/images.js';
import { modelStepContext } from '../../support/model-step-context.js';
import { type OwnOllama, startOwnOllama } from '../../support/own-ollama.js';
import { createTinyVisionModel } from '../../support/tiny-vision-model.js';

const model = 'vision-tiny:latest';
const never = new AbortController().signal;
const options = { num_predict: 4, seed: 1, temperature: 0 };
let server: OwnOllama;
let models: ModelBackend;

beforeAll(async () => {
  server = await startOwnOllama();
  await createTinyVisionModel(server.url, model);
  models = createOllamaBackend({
    address: server.url,
    registries: defaultRegistries,
    allowPull: false,
    timeouts: defaultOllamaTimeouts,
    log: pino({ level: 'silent' }),
  });
  await models.load({ name: model, numCtx: 4096 }, 600_000, never);
});
afterAll(() => server.stop());

const file = (bytes: Buffer) => ({ path: 'a', content: bytes.toString('base64'), encoding: 'base64' as const });
const look = (images: readonly Buffer[]) =>
  ollamaGenerate.run({ model, prompt: 'what is it?', options, ...(images.length === 0 ? {} : { images: images.map(file) }) }, modelStepContext(models).context);

test('a model that can see reads each image beside the prompt, PNG and JPEG [TPL-06]', async () => {
  const [blind, one, two, jpeg] = [await look([]), await look([pngOf(28, 28)]), await look([pngOf(28, 28), pngOf(9, 60)]), await look([greyJpeg()])];
  // Four patches an image, whatever its size, and the mark of the image.
  expect(one.prompt_tokens).toBeGreaterThan(blind.prompt_tokens);
  expect(two.prompt_tokens - one.prompt_tokens).toBe(one.prompt_tokens - blind.prompt_tokens);
  expect(jpeg.prompt_tokens).toBe(one.prompt_tokens);
});

test('the images of a message of a chat are read with it', async () => {
  const ask = async (images: readonly Buffer[]) => {
    const messages = [{ role: 'user' as const, content: 'what is it?', ...(images.length === 0 ? {} : { images: images.map(file) }) }];
    return (await ollamaChat.run({ model, messages, options }, modelStepContext(models).context)).prompt_tokens;
  };
  expect(await ask([pngOf(28, 28)])).toBeGreaterThan(await ask([]));
});

test('an image that the model cannot take is refused, and the server lives on', async () => {
  const runners = await server.runners();
  for (const bytes of [webpHeader(8, 8), pngOf(28, 28).subarray(0, 60), greyJpeg().subarray(0, 60)])
    await expect(look([bytes])).rejects.toMatchObject({ code: 'invalid_step_input', retryable: false });
  const webp = models.generate({ model: { name: model, numCtx: 4096 }, prompt: 'x', images: [webpHeader(8, 8)], outputBytesMax: 1000, signal: never });
  await expect(webp).rejects.toMatchObject({ code: 'invalid_step_input', message: expect.stringContaining('no WebP') });
  expect(await server.runners()).toEqual(runners);
});

test('a mark of an image in a text is told, not tried again and again', async () => {
  const ask = ollamaGenerate.run({ model, prompt: 'see [img-7]', options }, modelStepContext(models).context);
  await expect(ask).rejects.toMatchObject({ code: 'invalid_step_input', retryable: false, message: expect.stringContaining('[img-7]') });
});

test('no damaged PNG that is taken for whole ends the process that holds the model', async () => {
  const runners = await server.runners();
  const whole = pngOf(12, 12);
  const damage = fc.record({ at: fc.nat(whole.length - 1), value: fc.nat(255), cut: fc.option(fc.nat(whole.length), { freq: 5 }) });
  let taken = 0;
  await fc.assert(
    fc.asyncProperty(damage, async ({ at, value, cut }) => {
      const bytes = Buffer.from(whole.subarray(0, cut ?? whole.length));
      if (at < bytes.length) bytes[at] = value;
      const header = imageHeader(bytes);
      if (header === undefined || header.width * header.height > 1e6 || !(await isWhole(bytes, header))) return;
      taken += 1;
      await look([bytes]);
    }),
    { numRuns: 900 }, // about one in thirty is taken
  );
  expect(taken).toBeGreaterThan(5);
  expect(await server.runners()).toEqual(runners);
});
