import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Head } from '../../../contract/line.js';
import { levelOfExact } from '../../../contract/priority.js';
import { applyProposal, type Freedom } from '../../../scheduling/learned-order.js';
import type { Snapshot } from '../../../scheduling/policy.js';
import { emptySnapshot, waitingHead } from '../../support/snapshots.js';

const head = (row: string, exact: number): Head => waitingHead(Number(row), { exact, level: levelOfExact(exact) });
const snapshotOf = (...heads: Head[]): Snapshot => ({ ...emptySnapshot, heads });
const freedoms = (...of: Freedom[]) => {
  const byTask = new Map(of.map((freedom, index) => [`task ${index + 1}`, freedom]));
  return (taskId: string) => byTask.get(taskId) ?? 'level';
};

test('an agent moves a step within the level that its caller gave, one without a priority anywhere, and one that a person placed nowhere [SCHED-18]', () => {
  const snapshot = { ...snapshotOf(head('1', 50), head('2', 50), head('3', 50)), lacking: [head('4', 50)] };
  const free = freedoms('any', 'level', 'none');
  const applied = applyProposal(snapshot, new Map(Object.entries({ 1: 95, 2: 41, 3: 50, 4: 49 })), free);
  if (!applied.ok) throw new Error(applied.fault);
  expect([...applied.snapshot.heads, ...(applied.snapshot.lacking ?? [])].map(({ exact, level }) => [exact, level])).toEqual([
    [95, 10],
    [41, 5],
    [50, 5],
    [49, 5],
  ]);
  expect(applyProposal(snapshot, new Map([['2', 51]]), free)).toEqual({ ok: false, fault: expect.stringContaining('whose caller asked for level 5') });
  expect(applyProposal(snapshot, new Map([['3', 49]]), free)).toEqual({ ok: false, fault: expect.stringContaining('which a person has placed') });
  expect(applyProposal(snapshot, new Map([['9', 49]]), free)).toEqual({ ok: false, fault: expect.stringContaining('does not wait') });
  for (const nonsense of [Number.NaN, -1, 101, 50.5, Number.POSITIVE_INFINITY, '60' as unknown as number, null as unknown as number])
    expect(applyProposal(snapshot, new Map([['1', nonsense]]), free)).toEqual({ ok: false, fault: expect.stringContaining('which is no priority') });
});

test('whatever an agent proposes, no step leaves the level that its caller gave, and the rest of the snapshot stays as it is [SCHED-18]', () => {
  const exact = fc.integer({ min: 0, max: 100 });
  const freedom = fc.constantFrom<Freedom>('any', 'level', 'none');
  fc.assert(
    fc.property(
      fc.array(fc.record({ exact, freedom }), { maxLength: 8 }),
      fc.array(fc.tuple(fc.integer({ min: 1, max: 9 }), fc.oneof(exact, fc.double()))),
      (steps, values) => {
        const snapshot = snapshotOf(...steps.map((step, index) => head(String(index + 1), step.exact)));
        const applied = applyProposal(snapshot, new Map(values.map(([row, value]) => [String(row), value])), freedoms(...steps.map((step) => step.freedom)));
        if (!applied.ok) return;
        expect({ ...applied.snapshot, heads: snapshot.heads }).toEqual(snapshot);
        for (const [index, moved] of applied.snapshot.heads.entries()) {
          expect(moved.level).toBe(levelOfExact(moved.exact));
          if (steps[index]?.freedom === 'level') expect(moved.level).toBe(snapshot.heads[index]?.level);
          if (steps[index]?.freedom === 'none') expect(moved).toEqual(snapshot.heads[index]);
        }
      },
    ),
  );
});
