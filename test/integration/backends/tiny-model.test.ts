import { pino } from 'pino';
import { expect, test } from 'vitest';
import { createOllamaBackend, defaultOllamaTimeouts } from '../../../activities/backends/ollama.js';
import { createTinyModel } from '../../../activities/backends/server/tiny-model.js';
import { defaultRegistries } from '../../../contract/model-name.js';
import { ollamaAddress } from '../../support/servers.js';

test('a generated model ends its answers by itself, soon, so that a demonstration takes seconds', async () => {
  const name = 'ends-soon:latest';
  await createTinyModel(ollamaAddress(), name);
  const options = {
    address: ollamaAddress(),
    registries: defaultRegistries,
    allowPull: false,
    timeouts: defaultOllamaTimeouts,
    log: pino({ level: 'silent' }),
  };
  const backend = createOllamaBackend(options);
  const lengths: number[] = [];
  for (let seed = 1; seed <= 6; seed += 1) {
    const { finish, outputTokens } = await backend.generate({
      model: { name, numCtx: 2048 },
      prompt: 'Say hello in one sentence.',
      options: { seed },
      outputBytesMax: 100_000,
      signal: new AbortController().signal,
    });
    expect(finish).toBe('stop');
    lengths.push(outputTokens);
  }
  expect(Math.max(...lengths)).toBeLessThan(400);
});
