import { expect, test } from 'vitest';
import type { ResidencyRow, ResidencyState } from '../../../contract/residency.js';
import { planWorkers } from '../../../host/plan-workers.js';

const row = (name: string, state: ResidencyState, hostEpoch = 7): ResidencyRow => ({
  host: 'desk',
  hostEpoch,
  key: `${name}~ctx2048`,
  model: { name, numCtx: 2048 },
  state,
  sinceMs: 0,
});

test('only a serving key gets a worker [MODEL-08]', () => {
  const rows = [row('a:1', 'serving'), row('b:1', 'loading'), row('c:1', 'draining')];
  expect(planWorkers(rows, 7, new Set())).toEqual({ start: ['a:1~ctx2048'], stop: [] });
});

test('a worker stays while its key drains, since a granted step may still come for it [MODEL-06]', () => {
  expect(planWorkers([row('a:1', 'draining')], 7, new Set(['a:1~ctx2048']))).toEqual({ start: [], stop: [] });
});

test('a worker stops when its row is gone', () => {
  expect(planWorkers([row('a:1', 'serving')], 7, new Set(['a:1~ctx2048', 'b:1~ctx2048']))).toEqual({ start: [], stop: ['b:1~ctx2048'] });
});

test('rows of another epoch count for nothing', () => {
  expect(planWorkers([row('a:1', 'serving', 6)], 7, new Set(['a:1~ctx2048']))).toEqual({ start: [], stop: ['a:1~ctx2048'] });
});

test('nothing changes when the workers match their rows', () => {
  expect(planWorkers([row('a:1', 'serving')], 7, new Set(['a:1~ctx2048']))).toEqual({ start: [], stop: [] });
});
