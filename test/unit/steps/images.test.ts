import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ChatMessage, ModelBackend } from '../../../activities/backends/backend.js';
import { imageHeader, isWhole } from '../../../activities/steps/image-content.js';
import { loadImages } from '../../../activities/steps/images.js';
import { ollamaChat } from '../../../activities/steps/ollama-chat.js';
import { ollamaGenerate } from '../../../activities/steps/ollama-generate.js';
import { greyJpeg, jpegHeader, pngHeader, pngOf, webpHeader } from '../../support/images.js';
import { createMemoryBackend } from '../../support/memory-backend.js';
import { modelStepContext } from '../../support/model-step-context.js';

const model = 'one:latest';
const png = pngOf(4, 4);
let home: string;
let fileRoots: string[];
let workspace: string;

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'images-'));
  [fileRoots, workspace] = [[join(home, 'files')], join(home, 'workspace')];
  for (const directory of [...fileRoots, workspace]) await mkdir(directory);
  const files = fileRoots[0] ?? '';
  await writeFile(join(files, 'one.png'), png);
  await writeFile(join(files, 'two.png'), png);
  await writeFile(join(workspace, 'made.png'), png);
  await writeFile(join(files, 'large.png'), Buffer.concat([png, Buffer.alloc(20_000)]));
  await writeFile(join(files, 'bomb.png'), pngHeader(60_000, 60_000));
  await writeFile(join(files, 'text.png'), 'GIF is written here, and nothing is drawn');
  await writeFile(join(files, 'moving.gif'), Buffer.from('GIF89a\x01\x00\x01\x00\x00', 'latin1'));
  await writeFile(join(files, 'cut.png'), png.subarray(0, 50));
  await writeFile(join(home, 'secret.png'), png);
  await symlink(join(home, 'secret.png'), join(files, 'link.png'));
});
afterAll(() => rm(home, { recursive: true, force: true }));

const seeing = createMemoryBackend([model], {}, ['completion', 'vision']);
const surroundings = (models: ModelBackend = seeing) => modelStepContext(models, { fileRoots, workspace }).context;

describe('an image is known by its content', () => {
  test.each([
    ['a PNG', png, { kind: 'PNG', width: 4, height: 4 }],
    ['a JPEG', jpegHeader(640, 480), { kind: 'JPEG', width: 640, height: 480 }],
    ['a JPEG with a long comment', jpegHeader(640, 480, 60_000), { kind: 'JPEG', width: 640, height: 480 }],
    ['a WebP', webpHeader(1000, 2000), { kind: 'WebP', width: 1000, height: 2000 }],
  ])('%s', (_, bytes, header) => {
    expect(imageHeader(bytes)).toEqual(header);
  });

  test.each([
    ['nothing', Buffer.alloc(0)],
    ['a GIF', Buffer.from('GIF89a......', 'latin1')],
    ['a drawing in XML', Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>')],
    ['the beginning of a PNG', png.subarray(0, 18)],
    ['a JPEG without a frame', Buffer.from([0xff, 0xd8, 0xff, 0xfe, 0, 2])],
  ])('%s is none', (_, bytes) => {
    expect(imageHeader(bytes)).toBeUndefined();
  });

  test.each([
    ['a PNG', png, true],
    ['a PNG of other proportions', pngOf(100, 3), true],
    ['a JPEG', greyJpeg(), true],
    ['a PNG without its end', png.subarray(0, -12), false],
    ['a PNG without its pixels', Buffer.concat([png.subarray(0, 33), png.subarray(-12)]), false],
    ['a PNG with other pixels than its size says', pngHeader(2, 2), false],
    ['a PNG of no size', pngHeader(0, 4), false],
    ['a JPEG without its end', greyJpeg().subarray(0, -2), false],
    ['a JPEG without its pixels', greyJpeg().subarray(0, 90), false],
    ['a JPEG of a kind that few can read', Buffer.from(greyJpeg().toString('hex').replace('ffc0', 'ffc9'), 'hex'), false],
    ['a WebP that is cut off', Buffer.concat([webpHeader(4, 4).subarray(0, 4), Buffer.from([0xff, 0xff, 0, 0]), webpHeader(4, 4).subarray(8)]), false],
  ])('%s is whole: %#', async (_, bytes, whole) => {
    const header = imageHeader(bytes);
    expect(header).toBeDefined();
    expect(header && (await isWhole(bytes, header))).toBe(whole);
  });

  test('any bytes are read without an error', async () => {
    const starts = [Buffer.alloc(0), png.subarray(0, 16), greyJpeg().subarray(0, 90), webpHeader(1, 1).subarray(0, 12)];
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...starts), fc.uint8Array({ maxLength: 64 }), async (start, rest) => {
        const bytes = Buffer.concat([start, rest]);
        const header = imageHeader(bytes);
        if (header !== undefined && header.width * header.height < 1e6) expect(typeof (await isWhole(bytes, header))).toBe('boolean');
      }),
    );
  });
});

describe('images of a step', () => {
  test('are read by path and pattern below the allowed directories and the workspace, in the order of naming', async () => {
    expect(await loadImages(['made.png', 'o*.png', join(fileRoots[0] ?? '', 'two.png')], surroundings())).toEqual([png, png, png]);
  });

  test('are what a read_files step gave, as its files or as its whole output', async () => {
    const file = { path: 'x.png', content: png.toString('base64'), encoding: 'base64' as const };
    expect(await loadImages([file, file], surroundings())).toEqual([png, png]);
    expect(await loadImages({ files: [file] }, surroundings())).toEqual([png]);
    const parsed = ollamaGenerate.input.parse({ model, prompt: 'p', images: { files: [{ ...file, size_bytes: 3 }] } });
    expect(parsed.images).toEqual({ files: [file] });
  });

  test.each([
    ['a link', ['link.png'], 'path_refused'],
    ['a way out', ['../secret.png'], 'path_refused'],
    ['a place elsewhere', ['/etc/passwd'], 'path_refused'],
    ['no file', ['absent.png'], 'file_not_found'],
    ['a text that is called an image', ['text.png'], 'invalid_step_input'],
    ['a GIF', ['moving.gif'], 'invalid_step_input'],
    ['an image that is cut off', ['cut.png'], 'invalid_step_input'],
    ['too many bytes', ['large.png'], 'limit_exceeded'],
    ['too many pixels for its bytes', ['bomb.png'], 'limit_exceeded'],
    ['too many images', ['one.png', 'two.png', 'made.png', 'one.png'], 'limit_exceeded'],
  ])('%s is refused before the model is asked [bad-42]', async (_, images, code) => {
    const models: ModelBackend = { ...seeing, generate: () => Promise.reject(new Error('the model was asked')) };
    await expect(ollamaGenerate.run({ model, prompt: 'what is it?', images }, surroundings(models))).rejects.toMatchObject({ code, retryable: false });
  });

  test('text or base64 that is no image is refused, also when it is the path of a file', async () => {
    for (const content of ['/etc/passwd', '', 'AAAA']) {
      for (const encoding of ['utf-8', 'base64'] as const)
        await expect(loadImages([{ path: 'x', content, encoding }], surroundings())).rejects.toMatchObject({ code: 'invalid_step_input' });
    }
  });

  test('reach the model with the prompt, and with the message of a chat that has them', async () => {
    const asked: unknown[] = [];
    const models: ModelBackend = {
      ...seeing,
      generate: (request) => (asked.push(request.images), seeing.generate(request)),
      chat: (request) => (asked.push(request.messages), seeing.chat(request)),
    };
    const options = { num_predict: 2 };
    await ollamaGenerate.run({ model, prompt: 'what is it?', images: ['one.png'], options }, surroundings(models));
    const messages = [
      { role: 'user' as const, content: 'what is it?', images: ['two.png'] },
      { role: 'assistant' as const, content: 'a cat' },
      { role: 'user' as const, content: 'sure?' },
    ]; // prettier-ignore
    await ollamaChat.run({ model, messages, options }, surroundings(models));
    expect(asked[0]).toEqual([png]);
    expect((asked[1] as ChatMessage[]).map(({ images }) => images)).toEqual([[png], undefined, undefined]);
  });

  test('count over all messages of a chat', async () => {
    const messages = ['one.png', 'two.png'].map((path) => ({ role: 'user' as const, content: 'look', images: [path, 'made.png'] }));
    await expect(ollamaChat.run({ model, messages }, surroundings())).rejects.toMatchObject({ code: 'limit_exceeded', details: { limit: 'images_max' } });
  });

  test('for a model that cannot see fail the step for good', async () => {
    const run = ollamaGenerate.run({ model, prompt: 'what is it?', images: ['one.png'] }, surroundings(createMemoryBackend([model])));
    await expect(run).rejects.toMatchObject({ code: 'model_lacks_vision', retryable: false });
    expect(ollamaGenerate.policy.nonRetryable).toContain('model_lacks_vision');
  });
});
