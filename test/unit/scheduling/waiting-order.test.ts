import fc from 'fast-check';
import { expect, test } from 'vitest';
import { compareWaiting, defaultMaxWaitsMs, raisedLevelMax, standingOf, type Waiting } from '../../../scheduling/waiting-order.js';

const step = (level: number, waitedMs = 0, place = 1, exact = level * 10): Waiting => ({ level, exact, place, waitedMs });
const order = (...steps: Waiting[]) => steps.toSorted((a, b) => compareWaiting(a, b, defaultMaxWaitsMs));
const waiting = fc.record({
  level: fc.integer({ min: 1, max: 10 }),
  exact: fc.integer({ min: 0, max: 100 }),
  place: fc.integer({ min: 1, max: 1_000_000 }),
  waitedMs: fc.integer({ min: 0, max: 20_000_000 }),
});

test('a level rises by one for each longest wait, to eight and no further [SCHED-04]', () => {
  const [longest = 0] = defaultMaxWaitsMs;
  expect([0, longest - 1, longest, 6.5 * longest, 7 * longest, 70 * longest].map((waitedMs) => standingOf(step(1, waitedMs), defaultMaxWaitsMs))).toEqual([
    { level: 1, raised: false },
    { level: 1, raised: false },
    { level: 2, raised: true },
    { level: 7, raised: true },
    { level: 8, raised: true },
    { level: 8, raised: true },
  ]);
});

test.each([9, 10])('level %i is asked for, never earned, and does not change by waiting', (level) => {
  expect(standingOf(step(level, 1e9), defaultMaxWaitsMs)).toEqual({ level, raised: false });
});

test('any step below nine is at eight after at most seven longest waits, whatever its level [SCHED-04]', () => {
  for (let level = 1; level <= raisedLevelMax; level += 1)
    expect(standingOf(step(level, 7 * (defaultMaxWaitsMs[level - 1] ?? 0)), defaultMaxWaitsMs)).toMatchObject({ level: raisedLevelMax });
});

test('effective level first, then exact value, then arrival; what has waited too long goes before its new level, by arrival [SCHED-01, SCHED-03, SCHED-04]', () => {
  const [urgent, high, first, second, raisedLate, raisedEarly] = [
    step(9, 0, 60),
    step(6, 0, 50, 58),
    step(6, 0, 10, 55),
    step(6, 0, 11, 55),
    step(5, 900_000, 9, 50),
    step(5, 900_000, 8, 41),
  ];
  expect(order(first, raisedLate, high, urgent, second, raisedEarly)).toEqual([urgent, raisedEarly, raisedLate, high, first, second]);
});

test('the order is total: any three steps have one first, and which one does not depend on how they are asked [SCHED-04]', () => {
  fc.assert(
    fc.property(waiting, waiting, waiting, (a, b, c) => {
      const by = (x: Waiting, y: Waiting) => Math.sign(compareWaiting(x, y, defaultMaxWaitsMs));
      expect(by(a, b)).toBe(-by(b, a) + 0);
      if (by(a, b) < 0 && by(b, c) < 0) expect(by(a, c)).toBe(-1);
    }),
  );
});

test('of two steps of one level that came one after the other, the later never becomes the first by waiting', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 10 }), fc.integer({ min: 0, max: 1e7 }), fc.integer({ min: 0, max: 1e7 }), (level, waitedMs, moreMs) => {
      expect(compareWaiting(step(level, waitedMs + moreMs, 1), step(level, waitedMs, 2), defaultMaxWaitsMs)).toBeLessThan(0);
    }),
  );
});

test('a level that there is not is an error', () => {
  expect(() => standingOf(step(0), defaultMaxWaitsMs)).toThrow(RangeError);
  expect(() => standingOf(step(11), defaultMaxWaitsMs)).toThrow(RangeError);
});
