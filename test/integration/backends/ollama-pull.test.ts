import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { PullProgress } from '../../../activities/backends/backend.js';
import { createOllamaBackend, defaultOllamaTimeouts } from '../../../activities/backends/ollama.js';
import { tinyModelBytes, tinyShape } from '../../../activities/backends/server/tiny-model.js';
import { failureCodes } from '../../../contract/failure.js';
import { defaultRegistries, sameModel } from '../../../contract/model-name.js';
import { type ModelRegistry, startModelRegistry } from '../../support/model-registry.js';
import { type OwnOllama, startOwnOllama } from '../../support/own-ollama.js';

let server: OwnOllama;
let registry: ModelRegistry;
const never = new AbortController().signal;

beforeAll(async () => {
  registry = await startModelRegistry();
  server = await startOwnOllama();
});
afterAll(async () => {
  await server.stop();
  await registry.close();
});

function backend(more: { allowPull?: boolean; registries?: readonly string[] } = {}) {
  return createOllamaBackend({
    address: server.url,
    registries: [...defaultRegistries, registry.host],
    allowPull: true,
    timeouts: defaultOllamaTimeouts,
    log: pino({ level: 'silent' }),
    ...more,
  });
}

async function isInstalled(name: string): Promise<boolean> {
  return (await backend().installed(never)).some((each) => sameModel(each.name, name));
}

test('a pulled model answers, and its progress ends with all its bytes [MODEL-04]', async () => {
  const name = registry.publish('whole', { ...tinyShape, seed: 21 });
  const seen: PullProgress[] = [];
  await backend().pull(name, never, (progress) => seen.push(progress));
  const last = seen.at(-1);
  expect(last?.status).toBe('success');
  expect(last?.completedBytes).toBe(last?.totalBytes);
  expect(last?.totalBytes).toBeGreaterThan(200_000);
  expect(seen.map((each) => each.completedBytes)).toEqual(seen.map((each) => each.completedBytes).toSorted((a, b) => a - b));
  const answer = await backend().generate({
    model: { name, numCtx: 1024 },
    prompt: 'hello',
    options: { num_predict: 3, seed: 1 },
    outputBytesMax: 1000,
    signal: never,
  });
  expect(answer.outputTokens).toBeGreaterThan(0);
});

test('a download that is cut goes on where it stopped, instead of anew [fault-29]', async () => {
  const name = registry.publish('resumed', { ...tinyShape, seed: 22 });
  const before = registry.bytesSent();
  registry.cutDownloads(100_000, 1);
  await backend().pull(name, never, () => {});
  expect(registry.bytesSent() - before).toBe(tinyModelBytes(tinyShape).length);
  expect(await isInstalled(name)).toBe(true);
});

test('bytes with a wrong digest are fetched once more, and a source that stays wrong is refused by name [MODEL-13] [fault-29]', async () => {
  const healed = registry.publish('healed', { ...tinyShape, seed: 23 });
  registry.spoilDownloads(1);
  await backend().pull(healed, never, () => {});
  expect(await isInstalled(healed)).toBe(true);

  const wrong = registry.publish('wrong', { ...tinyShape, seed: 24 });
  registry.spoilDownloads(2);
  await expect(backend().pull(wrong, never, () => {})).rejects.toMatchObject({ code: failureCodes.modelDigestMismatch, retryable: false });
  expect(await isInstalled(wrong)).toBe(false);
});

test('a model that the registry does not have is not found, for good [MODEL-13]', async () => {
  await expect(backend().pull(`${registry.host}/test/absent`, never, () => {})).rejects.toMatchObject({ code: failureCodes.modelNotFound, retryable: false });
});

test('a registry that does not answer is a failed pull, which may be tried again [MODEL-13]', async () => {
  const gone = await startModelRegistry();
  await gone.close();
  await expect(backend({ registries: [gone.host] }).pull(`${gone.host}/test/tiny`, never, () => {})).rejects.toMatchObject({
    code: failureCodes.modelPullFailed,
    retryable: true,
  });
});

test('where pulling is switched off, nothing is asked of the registry [bad-41]', async () => {
  const name = registry.publish('forbidden');
  await expect(backend({ allowPull: false }).pull(name, never, () => {})).rejects.toMatchObject({ code: failureCodes.modelNotFound, retryable: false });
  expect(registry.manifests('forbidden')).toBe(0);
});

test('a registry that is not listed is not asked [bad-40]', async () => {
  const name = registry.publish('unlisted');
  await expect(backend({ registries: defaultRegistries }).pull(name, never, () => {})).rejects.toMatchObject({
    code: failureCodes.invalidInput,
    retryable: false,
  });
  expect(registry.manifests('unlisted')).toBe(0);
});

test('an aborted pull ends with the reason given', async () => {
  const name = registry.publish('aborted', { ...tinyShape, seed: 25 });
  const gate = registry.hold();
  const controller = new AbortController();
  const reason = new Error('nobody waits for it any more');
  const pull = backend().pull(name, controller.signal, () => controller.abort(reason));
  await expect(pull).rejects.toBe(reason);
  gate.go();
  expect(await isInstalled(name)).toBe(false);
});
