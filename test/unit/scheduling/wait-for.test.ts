import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { findDeadlocks, type RunningTask } from '../../../scheduling/wait-for.js';

const task = (taskId: string, has: string[], wants: string[] | null, exact = 50, place = 1): RunningTask => ({
  ...{ taskId, exact, place },
  holds: { locks: has, amounts: {} },
  wants: wants === null ? null : { locks: wants, amounts: {} },
});

describe('a deadlock', () => {
  test('is two tasks that want each other’s lock; the one of lower priority gives way [CONC-05, CONC-06]', () => {
    const [deadlock, ...more] = findDeadlocks([task('x', ['a'], ['b'], 40), task('y', ['b'], ['a'], 60)], {});
    expect(more).toEqual([]);
    expect(deadlock).toEqual({
      members: ['y', 'x'],
      victim: 'x',
      edges: [
        { taskId: 'x', holder: 'y', what: 'lock b' },
        { taskId: 'y', holder: 'x', what: 'lock a' },
      ],
    });
  });

  test('among equals the last to arrive gives way [CONC-06]', () => {
    expect(findDeadlocks([task('x', ['a'], ['b'], 50, 1), task('y', ['b'], ['a'], 50, 2)], {})[0]?.victim).toBe('y');
  });

  test('is not a chain that somebody ends, nor one who wants what he has', () => {
    expect(findDeadlocks([task('x', ['a'], ['b']), task('y', ['b'], ['c']), task('z', ['c'], null)], {})).toEqual([]);
    expect(findDeadlocks([task('x', ['a'], ['a'])], {})).toEqual([]);
  });

  test('does not name those who only stand behind it, and of two deadlocks each is found [CONC-05]', () => {
    const found = findDeadlocks(
      [
        task('x', ['a'], ['b']),
        task('y', ['b'], ['a']),
        task('behind', ['c'], ['a']),
        task('p', ['d'], ['e']),
        task('q', ['e'], ['f']),
        task('r', ['f'], ['d']),
      ],
      {},
    );
    expect(found.map(({ members }) => members.toSorted())).toEqual([
      ['x', 'y'],
      ['p', 'q', 'r'],
    ]);
  });

  test('of a pool is one only when what is free and what others give back does not suffice [CONC-05]', () => {
    const holder = (taskId: string, gpu: number, wants: number | null): RunningTask => ({
      ...task(taskId, [], null),
      holds: { locks: [], amounts: { gpu } },
      wants: wants === null ? null : { locks: [], amounts: { gpu: wants } },
    });
    expect(findDeadlocks([holder('x', 2, 1), holder('y', 2, 1)], { gpu: 4 })).toMatchObject([{ members: ['x', 'y'] }]);
    expect(findDeadlocks([holder('x', 2, 1), holder('y', 2, 1)], { gpu: 5 })).toEqual([]);
    expect(findDeadlocks([holder('x', 2, 1), holder('y', 1, 1), holder('z', 1, null)], { gpu: 4 })).toEqual([]);
  });
});

test('of any tasks and locks, those who give way are enough for all others to end, and none gives way where all can end [CONC-05, CONC-06]', () => {
  const lock = fc.constantFrom('a', 'b', 'c', 'd', 'e');
  const wishes = fc.array(
    fc.record({ has: fc.uniqueArray(lock, { maxLength: 2 }), wants: fc.option(fc.uniqueArray(lock, { minLength: 1, maxLength: 2 })), exact: fc.nat(100) }),
    {
      maxLength: 6,
    },
  );
  fc.assert(
    fc.property(wishes, (asked) => {
      const taken = new Set<string>();
      let tasks = asked.map(({ has, wants, exact }, index) => {
        const own = has.filter((name) => !taken.has(name));
        for (const name of own) taken.add(name);
        return task(`t${index}`, own, wants, exact, index);
      });
      for (let round = 0; ; round += 1) {
        expect(round).toBeLessThanOrEqual(asked.length);
        const deadlocks = findDeadlocks(tasks, {});
        const ended = endAll(tasks);
        expect(deadlocks.length === 0).toBe(ended);
        if (ended) break;
        for (const { members, victim, edges } of deadlocks) {
          const exacts = members.map((id) => tasks.find(({ taskId }) => taskId === id)?.exact ?? 0);
          expect(tasks.find(({ taskId }) => taskId === victim)?.exact).toBe(Math.min(...exacts));
          for (const id of members) expect(edges.some(({ taskId }) => taskId === id)).toBe(true);
        }
        const victims = new Set(deadlocks.map(({ victim }) => victim));
        tasks = tasks.map((each) => (victims.has(each.taskId) ? { ...each, holds: { locks: [], amounts: {} }, wants: null } : each));
      }
    }),
  );
});

/** Whether all tasks end when each one that has what it wants ends and gives back what it has. */
function endAll(tasks: readonly RunningTask[]): boolean {
  let left = [...tasks];
  for (;;) {
    const blocked = left.filter(
      ({ taskId, wants }) => wants?.locks.some((name) => left.some((other) => other.taskId !== taskId && other.holds.locks.includes(name))) ?? false,
    );
    if (blocked.length === left.length) return left.length === 0;
    left = blocked;
  }
}
