import { expect, test } from 'vitest';
import { type AlertSettings, findingsOf, shareBetween } from '../../../engine/collected.js';

const settings: AlertSettings = { targetLatencyMs: 100, highLatencyMs: 200, lowAccuracy: 0.75, highErrorRate: 0.05, rules: {} };
const errorRate = (failed: number, of: number) => findingsOf([{ name: 'error_rate', labels: {}, value: failed / of, of }], settings).map(({ rule }) => rule);
const accuracy = (kept: number, of: number) =>
  findingsOf([{ name: 'prediction_accuracy', labels: {}, value: kept / of, of }], settings).map(({ rule }) => rule);

test('what a share may be a sample of is narrower the more it was measured of, and never leaves 0 to 1', () => {
  // worked by hand: z = 1.645, 10 of 100
  const [least, greatest] = shareBetween(0.1, 100);
  expect(least).toBeCloseTo(0.0607, 3);
  expect(greatest).toBeCloseTo(0.1604, 3);
  for (const of of [1, 5, 20, 10_000])
    for (const part of [0, 1, of]) {
      const [low, high] = shareBetween(part / of, of);
      expect(low).toBeGreaterThanOrEqual(-1e-12);
      expect(high).toBeLessThanOrEqual(1 + 1e-12);
      expect(low).toBeLessThanOrEqual(part / of + 1e-12);
      expect(high).toBeGreaterThanOrEqual(part / of - 1e-12);
    }
});

test('one failure among a few raises no alert, a share that chance does not explain does [OBS-10]', () => {
  expect(errorRate(1, 5)).toEqual([]);
  expect(errorRate(1, 17)).toEqual([]);
  expect(errorRate(7, 100)).toEqual([]);
  expect(errorRate(3, 5)).toEqual(['high_error_rate']);
  expect(errorRate(10, 100)).toEqual(['high_error_rate']);
  expect(errorRate(60, 1_000)).toEqual([]);
  expect(errorRate(70, 1_000)).toEqual(['high_error_rate']);
});

test('a few predictions that missed raise no alert, many do [OBS-10]', () => {
  expect(accuracy(13, 20)).toEqual([]);
  expect(accuracy(8, 20)).toEqual(['low_accuracy']);
  expect(accuracy(720, 1_000)).toEqual(['low_accuracy']);
});

test('a rule of the configuration on a share holds by the same measure', () => {
  const rules = { many_errors: { metric: 'error_rate', above: 0.2 } } as const;
  const of = (value: number, count: number) =>
    findingsOf([{ name: 'error_rate', labels: {}, value, of: count }], { ...settings, highErrorRate: 1, rules }).map(({ rule }) => rule);
  expect(of(0.4, 5)).toEqual([]);
  expect(of(0.4, 100)).toEqual(['many_errors']);
});
