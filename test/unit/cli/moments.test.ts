import { expect, test } from 'vitest';
import { moment, parseSince, relative, span } from '../../../cli/moments.js';

const now = Date.parse('2026-01-09T12:00:00Z');

test('spans are told in two units at most', () => {
  expect([0.25, 59, 60, 3_725, 90_000, 172_800].map(span)).toEqual(['250 ms', '59 s', '1 min', '1 h 2 min', '1 d 1 h', '2 d']);
});

test('moments are told both ways', () => {
  expect(moment('2026-01-09T11:57:00.000Z', now)).toBe('2026-01-09 11:57:00Z (3 min ago)');
  expect(relative('2026-01-09T14:00:00Z', now)).toBe('in 2 h');
  expect(moment(null, now)).toBe('');
});

test('a point in time is ISO 8601 or a span before now', () => {
  expect(parseSince('15min', now)).toBe('2026-01-09T11:45:00.000Z');
  expect(parseSince('2 d', now)).toBe('2026-01-07T12:00:00.000Z');
  expect(parseSince('2026-01-01', now)).toBe('2026-01-01T00:00:00.000Z');
  for (const text of ['', 'yesterday', '5', '1y', '-3h', '2026-13-01']) expect(parseSince(text, now), text).toBeUndefined();
});
