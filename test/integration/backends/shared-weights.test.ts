import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { ModelBackend } from '../../../activities/backends/backend.js';
import { createTinyModel, tinyShape } from '../../../activities/backends/server/tiny-model.js';
import { backendOf } from '../../support/host-parts.js';
import { startHttpFaultProxy } from '../../support/http-fault-proxy.js';
import { type OwnOllama, startOwnOllama } from '../../support/own-ollama.js';

const [base, variant, tuned, other] = ['weights-base:latest', 'weights-variant:latest', 'weights-tuned:latest', 'weights-other:latest'] as const;
const never = () => new AbortController().signal;

let server: OwnOllama;
let backend: ModelBackend;
beforeAll(async () => {
  server = await startOwnOllama({ OLLAMA_MAX_LOADED_MODELS: '3' });
  backend = backendOf(server.url);
  for (const [index, name] of [base, other].entries()) await createTinyModel(server.url, name, { ...tinyShape, seed: index + 1 });
  await create({ model: variant, system: 'Answer in verse.' });
  await create({ model: tuned, parameters: { num_thread: 1 } });
}, 120_000);
afterAll(() => server?.stop());
beforeEach(async () => {
  for (const { name } of await backend.loaded(never())) await backend.unload(name, never());
});

async function create(request: object): Promise<void> {
  const answer = await fetch(`${server.url}/api/create`, { method: 'POST', body: JSON.stringify({ ...request, from: base, stream: false }) });
  expect(answer.ok).toBe(true);
}

const load = (name: string) => backend.load({ name, numCtx: 512 }, 600_000, never());
const namesLoaded = async () => (await backend.loaded(never())).map(({ name }) => name).sort();

test('a model and one made from it with another system prompt are answered from the same memory, whichever was loaded [MODEL-05]', async () => {
  const digests = new Map((await backend.installed(never())).map(({ name, digest }) => [name, digest]));
  expect(digests.get(base)).not.toBe(digests.get(variant));
  for (const [first, second] of [
    [base, variant],
    [variant, base],
  ] as const) {
    const loaded = await load(first);
    const runners = await server.runners();
    expect(await load(second)).toMatchObject({ name: second, digest: digests.get(second), runner: loaded.runner });
    expect(await server.runners()).toEqual(runners);
    expect(await namesLoaded()).toEqual([base, variant].sort());
    await backend.unload(second, never());
    expect(await namesLoaded()).toEqual([]);
  }
});

test('one with options of its own takes the place of the other, and another model has memory of its own [MODEL-05]', async () => {
  await load(base);
  const runners = await server.runners();
  await load(tuned);
  expect(await server.runners()).not.toEqual(runners);
  expect(await namesLoaded()).toEqual([tuned]);
  await load(other);
  expect(await namesLoaded()).toEqual([other, tuned].sort());
  const [one, two] = await backend.loaded(never());
  expect(one?.runner).not.toBe(two?.runner);
});

test('a model of which the server does not tell what it is made of harms no other [MODEL-05]', async () => {
  const proxy = await startHttpFaultProxy(server.url);
  try {
    proxy.fault('/api/show', { kind: 'answer', status: 500, body: '{"error":"the manifest is damaged"}' });
    const behind = backendOf(proxy.url);
    await behind.load({ name: base, numCtx: 512 }, 600_000, never());
    expect((await behind.loaded(never())).map(({ name }) => name)).toEqual([base]);
  } finally {
    await proxy.close();
  }
});
