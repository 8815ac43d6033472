import { pino } from 'pino';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { GenerateRequest } from '../../../activities/backends/backend.js';
import { createOllamaBackend, defaultOllamaTimeouts } from '../../../activities/backends/ollama.js';
import { createTinyModel, tinyShape } from '../../../activities/backends/server/tiny-model.js';
import { failureCodes, StepFailure } from '../../../contract/failure.js';
import { defaultRegistries } from '../../../contract/model-name.js';
import { type OwnOllama, startOwnOllama } from '../../support/own-ollama.js';
import { eventually } from '../../support/servers.js';

let server: OwnOllama;
const never = new AbortController().signal;
const one = { name: 'fault-one:latest', numCtx: 16_384 };
const two = { name: 'fault-two:latest', numCtx: 1024 };

beforeAll(async () => {
  server = await startOwnOllama({ OLLAMA_MAX_QUEUE: '1', OLLAMA_NUM_PARALLEL: '1' });
  await createTinyModel(server.url, one.name, { ...tinyShape, endless: true, seed: 31 });
  await createTinyModel(server.url, two.name, { ...tinyShape, endless: true, seed: 32 });
});
afterAll(() => server.stop());
beforeEach(async () => {
  await eventually(async () => (await fetch(`${server.url}/api/version`)).ok);
});

function backend(timeouts: Partial<typeof defaultOllamaTimeouts> = {}) {
  return createOllamaBackend({
    address: server.url,
    registries: defaultRegistries,
    allowPull: false,
    timeouts: { ...defaultOllamaTimeouts, ...timeouts },
    log: pino({ level: 'silent' }),
  });
}

/** An inference that goes on for seconds; `started` settles with its first piece of text. */
function longAnswer(timeouts: Partial<typeof defaultOllamaTimeouts> = {}, more: Partial<GenerateRequest> = {}) {
  let started = () => {};
  const first = new Promise<void>((resolve) => {
    started = resolve;
  });
  const controller = new AbortController();
  const end = backend(timeouts)
    .generate({
      model: one,
      prompt: 'hello',
      options: { num_predict: 100_000, temperature: 1.5, seed: 1 },
      outputBytesMax: 10_000_000,
      signal: controller.signal,
      onText: () => started(),
      ...more,
    })
    .then(
      () => new Error('it was completed'),
      (error: unknown) => error,
    );
  return { end, started: Promise.race([first, end]), abort: () => controller.abort() };
}

test('kill -9 of the server mid-stream: unavailable, retryable, and the same call succeeds after its return [fault-23] [MODEL-14]', async () => {
  const running = longAnswer();
  await running.started;
  await server.kill();
  expect(await running.end).toMatchObject({ code: failureCodes.backendUnavailable, retryable: true });
  await server.start();
  const again = await backend().generate({ model: one, prompt: 'hello', options: { num_predict: 4, seed: 1 }, outputBytesMax: 1000, signal: never });
  expect(again.outputTokens).toBe(4);
});

test('a server that was away and is back within a moment is asked anew what it holds, whichever call has missed it [fault-23] [fault-30]', async () => {
  const ours = backend();
  const misses: (() => Promise<unknown>)[] = [
    () => ours.version(never),
    () => ours.generate({ model: one, prompt: 'hello', options: { num_predict: 4 }, outputBytesMax: 1000, signal: never }),
  ];
  for (const miss of misses) {
    await ours.load(one, 60_000, never);
    expect((await ours.loaded(never)).map(({ name }) => name)).toEqual([one.name]);
    await server.kill();
    await expect(miss()).rejects.toMatchObject({ code: failureCodes.backendUnavailable });
    await server.start();
    expect(await ours.loaded(never)).toEqual([]);
  }
});

test('kill -9 of the runner alone: a failure that may be tried again, never half an answer [fault-24]', async () => {
  const running = longAnswer();
  await running.started;
  const [runner] = await eventually(async () => {
    const pids = await server.runners();
    return pids.length > 0 ? pids : undefined;
  });
  process.kill(runner ?? 0, 'SIGKILL');
  const error = await running.end;
  expect(error).toBeInstanceOf(StepFailure);
  expect(error).toMatchObject({ retryable: true });
  expect(['backend_failed', failureCodes.backendUnavailable]).toContain((error as StepFailure).code);
  const again = await backend().generate({ model: one, prompt: 'hello', options: { num_predict: 4, seed: 1 }, outputBytesMax: 1000, signal: never });
  expect(again.outputTokens).toBe(4);
});

test('a runner that stops without ending: the silence ends the call, not the test [fault-25]', async () => {
  const running = longAnswer({ idleMs: 1_000 });
  await running.started;
  const [runner] = await server.runners();
  process.kill(runner ?? 0, 'SIGSTOP');
  try {
    expect(await running.end).toMatchObject({ code: failureCodes.timeout, retryable: true, details: { deadline: 'idle' } });
  } finally {
    process.kill(runner ?? 0, 'SIGCONT');
  }
  await backend().unload(one.name, never);
  expect(await backend().loaded(never)).toEqual([]);
});

test('unloading a busy model waits for its inference, and says so when that takes too long', async () => {
  const running = longAnswer();
  await running.started;
  await expect(backend({ unloadMs: 500 }).unload(one.name, never)).rejects.toMatchObject({ code: 'backend_failed', retryable: true });
  running.abort();
  await running.end;
  await backend().unload(one.name, never);
});

test('a full queue is busy, which may be tried again [fault-26]', async () => {
  const running = longAnswer();
  await running.started;
  // One request for another model blocks the scheduler, one fills the queue of one, so some of the rest find it full.
  const controller = new AbortController();
  const waiting = Array.from({ length: 6 }, () => backend().load(two, 1000, controller.signal));
  const refused = await Promise.any(
    waiting.map((each) =>
      each.then(
        () => Promise.reject(new Error('was served')),
        (error: unknown) => error,
      ),
    ),
  );
  expect(refused).toMatchObject({ code: 'backend_busy', retryable: true });
  running.abort();
  controller.abort();
  await Promise.allSettled([running.end, ...waiting]);
});

test('a model that needs more memory than there is says so, and is not tried again [fault-27] [MODEL-13]', async () => {
  const wide = 'fault-wide:latest';
  // Its context alone takes a terabyte: keys and values of 2 bytes, width 256, 64 blocks, for each of 16 million tokens.
  const contextLength = 16_777_216;
  await createTinyModel(server.url, wide, { ...tinyShape, width: 256, blocks: 64, feedForward: 64, contextLength, seed: 33 });
  await expect(backend().load({ name: wide, numCtx: contextLength }, 1000, never)).rejects.toMatchObject({
    code: failureCodes.modelOutOfMemory,
    retryable: false,
  });
});

test('a load that takes longer than its limit is ended by name [MODEL-13]', async () => {
  const [runner] = await holdRunner();
  try {
    await expect(backend({ loadMs: 500 }).load({ ...one, numCtx: 2048 }, 1000, never)).rejects.toMatchObject({
      code: failureCodes.modelLoadTimeout,
      retryable: true,
    });
  } finally {
    process.kill(runner ?? 0, 'SIGCONT');
  }
});

/** A runner that is busy and stopped: the load of anything else has to wait for it. */
async function holdRunner(): Promise<number[]> {
  const running = longAnswer();
  await running.started;
  const runners = await server.runners();
  process.kill(runners[0] ?? 0, 'SIGSTOP');
  return runners;
}
