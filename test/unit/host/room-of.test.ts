import { describe, expect, test } from 'vitest';
import type { LoadedModel } from '../../../activities/backends/backend.js';
import { parseGpus } from '../../../host/read-memory.js';
import { type MemoryReading, roomOf } from '../../../host/room-of.js';

const gb = 1024 ** 3;
const model = (name: string, gigabytes: number, onGpu = 0): LoadedModel => ({
  name: `${name}:latest`,
  digest: name,
  memoryBytes: gigabytes * gb,
  vramBytes: onGpu * gb,
  contextLength: 4096,
  expiresAtMs: null,
  runner: name,
});
const main = (totalGb: number, usedGb: number): MemoryReading => ({ main: { totalBytes: totalGb * gb, usedBytes: usedGb * gb }, gpu: null });
const gpu = (totalGb: number, usedGb: number): MemoryReading => ({ ...main(64, 4), gpu: { totalBytes: totalGb * gb, usedBytes: usedGb * gb } });
const unset = { modelsMax: null, budgetBytes: null };
const ours = new Set(['mine:latest']);

describe('what a host may hold [MODEL-09]', () => {
  test('is one model where nothing is known, and what is configured where it is', () => {
    expect(roomOf(unset, null, [], ours)).toEqual({ modelsMax: 1, roomBytes: null, budgetBytes: null, spillBytes: 0 });
    expect(roomOf({ modelsMax: 2, budgetBytes: null }, null, [], ours)).toMatchObject({ modelsMax: 2, roomBytes: null });
    expect(roomOf({ modelsMax: null, budgetBytes: 4 * gb }, null, [], ours)).toMatchObject({ modelsMax: 3, roomBytes: 4 * gb, budgetBytes: 4 * gb });
  });

  test('is 80 % of the main memory, less only where other programs use more than the rest', () => {
    expect(roomOf(unset, main(10, 1), [], ours)).toMatchObject({ modelsMax: 3, roomBytes: 8 * gb, budgetBytes: 8 * gb });
    expect(roomOf(unset, main(10, 7), [], ours)).toMatchObject({ roomBytes: 3 * gb, budgetBytes: 8 * gb });
  });

  test('does not count our own models as used', () => {
    expect(roomOf(unset, main(10, 7), [model('mine', 6)], ours)).toMatchObject({ roomBytes: 8 * gb });
  });

  test('is less by what others have loaded on the same server', () => {
    expect(roomOf(unset, main(100, 5), [model('mine', 2), model('theirs', 3)], ours)).toMatchObject({ roomBytes: 77 * gb, budgetBytes: 80 * gb });
    expect(roomOf({ modelsMax: null, budgetBytes: 4 * gb }, null, [model('theirs', 5)], ours)).toMatchObject({ roomBytes: 0, budgetBytes: 4 * gb });
  });

  test('counts a model once, whatever names it has, and knows ours by any of them', () => {
    const one = model('mine', 6);
    expect(roomOf(unset, main(10, 7), [{ ...one, name: 'other:latest' }, one], ours)).toMatchObject({ roomBytes: 8 * gb });
  });

  test('is the memory of the GPUs less what other programs use there, and a model alone may take main memory too', () => {
    const spillBytes = Math.floor(0.8 * 64 * gb);
    expect(roomOf(unset, gpu(24, 0), [], ours)).toEqual({ modelsMax: 3, roomBytes: 24 * gb, budgetBytes: 24 * gb, spillBytes });
    expect(roomOf(unset, gpu(24, 14), [model('mine', 10, 8)], ours)).toEqual({ modelsMax: 3, roomBytes: 18 * gb, budgetBytes: 24 * gb, spillBytes });
  });

  test('is the main memory where a GPU is there and the server does not use it', () => {
    expect(roomOf(unset, gpu(24, 0), [model('mine', 10)], ours)).toMatchObject({ budgetBytes: Math.floor(0.8 * 64 * gb), spillBytes: 0 });
  });
});

test('the memory of GPUs is read from the lines of nvidia-smi', () => {
  expect(parseGpus('24576, 1024\n24576, 0\n')).toEqual({ totalBytes: 48 * gb, usedBytes: gb });
  expect(parseGpus('[N/A], [N/A]\n')).toBeNull();
  expect(parseGpus('')).toBeNull();
});
