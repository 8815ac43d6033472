import { expect, test } from 'vitest';
import { slowToLoadShape, tinyModelBytes, tinyModelChunks, tinyShape } from '../../../activities/backends/server/tiny-model.js';

test('a generated model has the same bytes for the same seed, and others for another', () => {
  const bytes = tinyModelBytes(tinyShape);
  expect(bytes.subarray(0, 4).toString()).toBe('GGUF');
  expect(bytes.length).toBeLessThan(300_000);
  expect(tinyModelBytes(tinyShape).equals(bytes)).toBe(true);
  expect(tinyModelBytes({ ...tinyShape, seed: 2 }).equals(bytes)).toBe(false);
});

test('a large model is made in small pieces, so that it never has to be in memory', () => {
  let largest = 0;
  let total = 0;
  for (const chunk of tinyModelChunks(slowToLoadShape)) {
    largest = Math.max(largest, chunk.length);
    total += chunk.length;
  }
  expect(Math.round(total / 1e6)).toBe(412);
  expect(largest).toBeLessThanOrEqual(1 << 20);
});
