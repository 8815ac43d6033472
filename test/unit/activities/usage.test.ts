import { expect, test } from 'vitest';
import { addUsage } from '../../../activities/usage.js';

test('times and numeric metrics add up, memory keeps its peak, the rest its later value [MODEL-10]', () => {
  const before = { inferenceTimeSeconds: 2, memoryUsedGb: 4, metrics: { tokens: 10, reason: 'length' } };
  const more = { inferenceTimeSeconds: 3, memoryUsedGb: 1, cpuSeconds: 1, metrics: { tokens: 5, reason: 'stop' } };
  expect(addUsage(before, more)).toEqual({ inferenceTimeSeconds: 5, memoryUsedGb: 4, cpuSeconds: 1, metrics: { tokens: 15, reason: 'stop' } });
});

test('nothing is made up for what was not measured', () => {
  expect(addUsage({}, {})).toEqual({});
});
