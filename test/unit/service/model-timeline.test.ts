import { expect, test } from 'vitest';
import { plannedSpans, plannedSteps } from '../../../service/model-timeline.js';
import { forecastEntry } from '../../support/forecast-entry.js';

const madeAt = new Date('2026-01-09T10:00:00.000Z');
const step = (model: string, from: number, until: number, host = 'a') => ({ host, model, fromMs: madeAt.getTime() + from, untilMs: madeAt.getTime() + until });
const short = (spans: ReturnType<typeof plannedSpans>) =>
  spans.map(({ model, state, from, until }) => [model, state, Date.parse(from) - madeAt.getTime(), Date.parse(until ?? '') - madeAt.getTime()]);

test('a model stays until its host needs the room for another [DASH-04]', () => {
  const steps = [step('x', 0, 10), step('x', 20, 30), step('y', 40, 50), step('x', 60, 70)];
  expect(short(plannedSpans(steps, [], new Map()))).toEqual([
    ['x', 'planned', 0, 30],
    ['y', 'planned', 40, 50],
    ['x', 'planned', 60, 70],
  ]);
  expect(short(plannedSpans(steps, [], new Map([['a', 2]])))).toEqual([
    ['x', 'planned', 0, 70],
    ['y', 'planned', 40, 50],
  ]);
});

test('what is served now is kept, once', () => {
  const steps = [step('x', 0, 10), step('y', 20, 30), step('x', 40, 50)];
  const present = [{ host: 'a', model: 'x', state: 'serving' as const, endedAt: null }];
  expect(short(plannedSpans(steps, present, new Map())).map(([model, state]) => [model, state])).toEqual([
    ['x', 'kept'],
    ['y', 'planned'],
    ['x', 'planned'],
  ]);
});

test('steps are planned from now on, on a host, by a moment; what runs is no plan', () => {
  const now = new Date(madeAt.getTime() + 5_000);
  const forecast = {
    version: 1,
    madeAt,
    entries: [
      forecastEntry('runs', { position: null, start_ms: 0 }),
      forecastEntry('late', { start_ms: 100_000_000, finish_ms: 100_000_001 }),
      forecastEntry('second', { start_ms: 20_000, finish_ms: 30_000 }),
      forecastEntry('due', { start_ms: 1_000, finish_ms: 2_000 }),
      forecastEntry('nowhere', { host: null }),
    ],
  };
  const steps = plannedSteps(forecast, now, new Date(madeAt.getTime() + 60_000));
  expect(steps.map(({ fromMs, untilMs }) => [fromMs - madeAt.getTime(), untilMs - madeAt.getTime()])).toEqual([
    [5_000, 5_000],
    [20_000, 30_000],
  ]);
  expect(plannedSteps(null, now, now)).toEqual([]);
});
