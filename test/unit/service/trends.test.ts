import fc from 'fast-check';
import { expect, test } from 'vitest';
import { spreadOf } from '../../../service/trends.js';

test('median and 90th percentile lie between two durations where they fall between, and nothing has none [DASH-09]', () => {
  expect(spreadOf([])).toEqual({ median: null, p90: null });
  expect(spreadOf([new Float32Array(), new Float32Array([7])])).toEqual({ median: 7, p90: 7 });
  expect(spreadOf([new Float32Array([30, 10]), new Float32Array([20])])).toEqual({ median: 20, p90: 28 });
  expect(spreadOf([new Float32Array([1, 2, 3, 4])])).toEqual({ median: 2.5, p90: 3.7 });
});

test('however the durations are cut into buckets, the whole has the same spread [DASH-09]', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 100_000 }), { minLength: 1 }), fc.nat(), (seconds, cut) => {
      const at = cut % (seconds.length + 1);
      const [one, two] = [new Float32Array(seconds.slice(0, at)), new Float32Array(seconds.slice(at))];
      expect(spreadOf([one, two])).toEqual(spreadOf([new Float32Array(seconds)]));
      expect(spreadOf([two]).median ?? 0).toBeLessThanOrEqual(Math.max(...seconds));
    }),
  );
});
