import fc from 'fast-check';
import { expect, test } from 'vitest';
import { matchesName } from '../../../activities/glob-below.js';

test('a pattern matches as the regular expression it stands for', () => {
  const letters = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 8 });
  const patterns = fc.string({ unit: fc.constantFrom('a', 'b', '*', '?'), maxLength: 6 });
  fc.assert(
    fc.property(patterns, letters, (pattern, name) => {
      const expected = new RegExp(`^${pattern.replaceAll('*', '.*').replaceAll('?', '.')}$`).test(name);
      expect(matchesName(pattern, name)).toBe(expected);
    }),
  );
});

test('a pattern made to backtrack answers', () => {
  expect(matchesName(`${'*a'.repeat(60)}b`, 'a'.repeat(250))).toBe(false);
});

test('hidden names are matched only by patterns that say so', () => {
  expect(matchesName('*', '.env')).toBe(false);
  expect(matchesName('.*', '.env')).toBe(true);
});
