import { expect, test } from 'vitest';
import { durationOf, type DurationStats, isLearned, learnDuration, type StepKind } from '../../../scheduling/durations.js';
import { planDuration } from '../../../scheduling/plan-duration.js';
import { spreadOf } from '../../../scheduling/spread.js';

const about = (ms: number) => ({ mu: Math.log(ms), variance: 0.0001 });
const step = (id: string, ms: number, ...needs: string[]) => ({ id, needs, duration: about(ms) });

test('a chain takes the sum of its steps, and its variance theirs [PRED-12]', () => {
  const { meanMs, variance } = planDuration([step('a', 1_000), step('b', 2_000, 'a'), step('c', 3_000, 'b')]);
  expect(meanMs).toBeCloseTo(6_000, -1);
  expect(variance).toBeCloseTo([1_000, 2_000, 3_000].reduce((sum, ms) => sum + spreadOf(about(ms)).variance, 0));
});

test('of steps side by side the longest chain counts [PRED-12]', () => {
  expect(planDuration([step('a', 1_000), step('b', 5_000), step('c', 500, 'a', 'b'), step('d', 100, 'a')]).meanMs).toBeCloseTo(5_500, -1);
  expect(planDuration([])).toEqual({ meanMs: 0, variance: 0 });
});

test('a step counts as known once one of its type has ended [PRED-12]', () => {
  const known = new Map<string, DurationStats>();
  const statsOf = (group: string) => known.get(group);
  const kind = (type: string): StepKind => ({ template: 't', step: 's', type, model: null });
  expect(isLearned(kind('read_files'), statsOf)).toBe(false);
  for (const [group, stats] of learnDuration({ ...kind('read_files'), template: 'other' }, 700, statsOf)) known.set(group, stats);
  expect([isLearned(kind('read_files'), statsOf), isLearned(kind('format_output'), statsOf)]).toEqual([true, false]);
  expect(Math.exp(durationOf(kind('read_files'), statsOf).mu)).toBeLessThan(3_000);
});
