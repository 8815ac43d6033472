import { describe, expect, test } from 'vitest';
import { bytes, count, duration, expected, expectedWithin, moment, plural, relative, withQuery } from '../../../dashboard/format.js';

const second = 1_000;
const minute = 60 * second;
const hour = 60 * minute;
const day = 24 * hour;

describe('a span of time has its two largest units, and never sixty of the small one', () => {
  test.each([
    [null, '–'],
    [0, '0.0 s'],
    [430, '0.4 s'],
    [11 * second, '11 s'],
    [59.4 * second, '59 s'],
    [59.9 * second, '1 min'],
    [200 * second, '3 min 20 s'],
    [119.7 * second, '2 min'],
    [59 * minute + 59.8 * second, '1 h'],
    [2 * hour + 5 * minute, '2 h 5 min'],
    [23 * hour + 59 * minute + 50 * second, '1 d'],
    [3 * day + 4 * hour, '3 d 4 h'],
  ])('%s ms', (ms, text) => expect(duration(ms)).toBe(text));
});

describe('a moment is told from now with one unit', () => {
  const now = Date.parse('2026-01-09T10:30:00.000Z');
  test.each([
    [0, 'now'],
    [-900, 'now'],
    [12 * second, 'in 12 s'],
    [-3 * minute, '3 min ago'],
    [59.9 * second, 'in 1 min'],
    [5 * hour, 'in 5 h'],
    [-2 * day, '2 d ago'],
  ])('%s ms', (ms, text) => expect(relative(new Date(now + ms).toISOString(), now)).toBe(text));
  test('none is a dash', () => expect(relative(null, now)).toBe('–'));
});

test('sizes have binary units', () => {
  expect([0, 1_023, 1_536, 4_920_753_328, 150 * 1_024 ** 3, null].map(bytes)).toEqual(['0 bytes', '1023 bytes', '1.5 KiB', '4.6 GiB', '150 GiB', '–']);
});

test('numbers have spaces between thousands, words follow the number', () => {
  expect([count(999), count(10_000), count(1_234_567)]).toEqual(['999', '10 000', '1 234 567']);
  expect([plural(1, 'task'), plural(2, 'task'), plural(0, 'match', 'matches')]).toEqual(['1 task', '2 tasks', '0 matches']);
});

test('a moment in full is of the day and second', () => expect(moment('2026-01-09T10:30:05.123Z')).toBe('2026-01-09 10:30:05 UTC'));

test('an address keeps the rest of its query', () => {
  const url = new URL('http://here/?priority=9&cursor=x');
  expect([withQuery(url, { cursor: null }), withQuery(url, { cursor: null, priority: null }), withQuery(url, { minutes: 15 })]).toEqual([
    '/?priority=9',
    '/',
    '/?priority=9&cursor=x&minutes=15',
  ]);
});

test('what is predicted for the past may happen at any moment', () => {
  const now = Date.parse('2026-01-09T10:30:00.000Z');
  const at = (ms: number) => new Date(now + ms).toISOString();
  expect([expected(at(-5_000), now), expected(at(5_000), now), expected(null, now)]).toEqual(['any moment', 'in 5 s', '–']);
  expect(expectedWithin([at(-5_000), at(40_000)], now)).toBe('within 40 s');
  expect(expectedWithin([at(12_000), at(40_000)], now)).toBe('12 s – 40 s');
  expect(expectedWithin([at(-50_000), at(-40_000)], now)).toBe('any moment');
});
