import { expect, test } from 'vitest';
import type { ModelBackend } from '../../../activities/backends/backend.js';
import { StepFailure } from '../../../contract/failure.js';
import { watchBackend } from '../../../host/watched-backend.js';
import { createMemoryBackend } from '../../support/memory-backend.js';

const model = { name: 'one:latest', numCtx: 2048 };
const common = { model, outputBytesMax: 1000, options: { num_predict: 2 }, signal: new AbortController().signal };
const inferences: Record<string, (backend: ModelBackend) => Promise<unknown>> = {
  generate: (backend) => backend.generate({ ...common, prompt: 'x' }),
  chat: (backend) => backend.chat({ ...common, messages: [{ role: 'user', content: 'x' }] }),
  embed: (backend) => backend.embed({ model, input: ['x'], signal: common.signal }),
};

test.each(Object.entries(inferences))('%s counts as a use of the model, and tells of a server that is away before the step hears of it', async (_, infer) => {
  const backend = createMemoryBackend([model.name]);
  const seen: string[] = [];
  const watched = watchBackend(backend, { onUse: (name) => void seen.push(name), onUnavailable: async () => void seen.push('away') });
  await infer(watched);
  expect(seen).toEqual([model.name, model.name]);
  backend.harm = { kind: 'away' };
  await expect(infer(watched).catch((error: unknown) => (seen.push('told'), Promise.reject(error)))).rejects.toBeInstanceOf(StepFailure);
  expect(seen.slice(2)).toEqual([model.name, 'away', model.name, 'told']);
});
