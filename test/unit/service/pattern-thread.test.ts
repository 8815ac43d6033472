import { expect, test } from 'vitest';
import { createPatternThread, matchesFor } from '../../../service/pattern-thread.js';

const endless = { pattern: '^(a+)+$', value: `${'a'.repeat(40)}b` };
const plain = { pattern: '^[a-z]+$', value: 'abc' };

test('a pattern that never ends is given up, those after it too, and the thread goes on with the next request [bad-45]', async () => {
  const thread = createPatternThread();
  const [bad, good] = await Promise.all([thread.try([plain, endless, plain]), thread.try([plain, { ...plain, value: 'A' }])]);
  expect(bad).toEqual([true, null]);
  expect(good).toEqual([true, false]);
});

test('the process goes on while a pattern is tried', async () => {
  const thread = createPatternThread();
  let over = false;
  const verdicts = thread.try([endless]).finally(() => (over = true));
  let turns = 0;
  while (!over) {
    await new Promise((resolve) => setImmediate(resolve));
    turns += 1;
  }
  expect(await verdicts).toEqual([null]);
  expect(turns).toBeGreaterThan(100);
});

test('requests wait for the thread up to a number, and are refused beyond it', async () => {
  const thread = createPatternThread();
  const taken = Array.from({ length: 33 }, () => thread.try([plain]));
  expect(() => thread.try([plain])).toThrow('Too many patterns');
  expect(await Promise.all(taken)).toEqual(Array.from({ length: 33 }, () => [true]));
  expect(await thread.try([plain])).toEqual([true]);
});

test('a check is told what the thread found, and none is started for a check without patterns', async () => {
  const thread = createPatternThread();
  const check = (match: (pattern: string, value: string) => boolean | null) => [match('^a', 'ab'), match('^a', 'b'), match(endless.pattern, endless.value)];
  const { first, match } = await matchesFor(thread, check);
  expect(first).toEqual([true, true, true]);
  expect(match && check(match)).toEqual([true, false, null]);
  const never = { try: () => Promise.reject(new Error('was asked')) };
  expect(await matchesFor(never, () => 'none')).toEqual({ first: 'none', match: undefined });
});
