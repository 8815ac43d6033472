import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createOllamaBackend, defaultOllamaTimeouts } from '../../../activities/backends/ollama.js';
import { createTinyModel, slowToLoadShape } from '../../../activities/backends/server/tiny-model.js';
import { waitWhileBusy } from '../../../activities/backends/while-busy.js';
import { defaultRegistries } from '../../../contract/model-name.js';
import { createMemoryBackend } from '../../support/memory-backend.js';
import { type OwnOllama, startOwnOllama } from '../../support/own-ollama.js';
import { eventually } from '../../support/servers.js';

const never = new AbortController().signal;
const model = { name: 'busy:latest', numCtx: 1024 };
let server: OwnOllama;

beforeAll(async () => {
  server = await startOwnOllama({ OLLAMA_MAX_QUEUE: '1' });
  await createTinyModel(server.url, model.name, { ...slowToLoadShape, width: 512, blocks: 8, feedForward: 1024, endless: true, seed: 61 });
}, 120_000);
afterAll(() => server.stop());

const ask = { model, prompt: 'hello', options: { num_predict: 2, seed: 1 }, outputBytesMax: 10_000, signal: never };

test('inferences and loads that find the queue of the server full are served in the end, and none fails [fault-26]', async () => {
  const waits: string[] = [];
  const log = pino({ level: 'info' }, { write: (line: string) => void (line.includes('busy; waiting') && waits.push(line)) });
  const options = { address: server.url, registries: defaultRegistries, allowPull: false, timeouts: defaultOllamaTimeouts, log };
  const backend = waitWhileBusy(createOllamaBackend(options), log, { firstMs: 50, longestMs: 400 });
  // While the first loads the model one more waits in the queue; the rest find it full.
  const answers = await Promise.all([...Array.from({ length: 6 }, () => backend.generate(ask)), backend.load(model, 60_000, never)]);
  expect(answers).toHaveLength(7);
  expect(waits.length).toBeGreaterThan(0);
});

test('the wait for a busy server ends with the step [fault-26]', async () => {
  const memory = createMemoryBackend([model.name]);
  memory.harm = { kind: 'full' };
  const seen: string[] = [];
  const log = pino({ level: 'info' }, { write: (line: string) => void seen.push(line) });
  const step = new AbortController();
  const answer = waitWhileBusy(memory, log, { firstMs: 600_000, longestMs: 600_000 }).generate({ ...ask, signal: step.signal });
  await eventually(() => seen.length === 1);
  step.abort('deadline');
  await expect(answer).rejects.toBe('deadline');
});

test('other failures are not waited for', async () => {
  const memory = createMemoryBackend([model.name]);
  memory.harm = { kind: 'away' };
  await expect(waitWhileBusy(memory, pino({ level: 'silent' })).generate(ask)).rejects.toMatchObject({ code: 'backend_unavailable' });
});
