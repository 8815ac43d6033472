import { readFile } from 'node:fs/promises';
import { pino } from 'pino';
import { expect, onTestFinished, test } from 'vitest';
import { createOllamaBackend, defaultOllamaTimeouts } from '../../../activities/backends/ollama.js';
import { endOrphanRunners } from '../../../activities/backends/server/orphan-runners.js';
import { createTinyModel } from '../../../activities/backends/server/tiny-model.js';
import { defaultRegistries } from '../../../contract/model-name.js';
import { startOwnOllama } from '../../support/own-ollama.js';

const never = new AbortController().signal;
const isThere = (pid: number) =>
  readFile(`/proc/${pid}/cmdline`, 'utf8')
    .then((text) => text !== '')
    .catch(() => false);

test('after a kill -9 of the server its runner is ended, and before it the runner is left alone [fault-35]', async () => {
  const server = await startOwnOllama();
  onTestFinished(() => server.stop());
  await createTinyModel(server.url, 'orphan:latest');
  const backend = createOllamaBackend({
    address: server.url,
    registries: defaultRegistries,
    allowPull: false,
    timeouts: defaultOllamaTimeouts,
    log: pino({ level: 'silent' }),
  });
  await backend.load({ name: 'orphan:latest', numCtx: 1024 }, 600_000, never);
  const [runner = 0] = await server.runners();
  expect(await endOrphanRunners(server.modelsDir)).toBe(0);
  expect(await isThere(runner)).toBe(true);
  await server.killServer();
  expect(await isThere(runner)).toBe(true);
  expect(await endOrphanRunners(server.modelsDir)).toBe(1);
  expect(await isThere(runner)).toBe(false);
});
