import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type DagEdge, findCycle } from '../../../scheduling/dag.js';

const node = fc.integer({ min: 0, max: 12 }).map(String);
const edges = fc.array(fc.record({ parent: node, child: node }), { maxLength: 40 });

/** Whether every node can be taken away after all its parents; slow and obvious. */
function hasOrder(all: readonly DagEdge[]): boolean {
  let left = [...all];
  for (;;) {
    const waiting = new Set(left.map(({ child }) => child));
    const next = left.filter(({ parent }) => waiting.has(parent));
    if (next.length === left.length) return left.length === 0;
    left = next;
  }
}

test('a cycle is found exactly when there is one, and every step of it is an edge [SCHED-06]', () => {
  fc.assert(
    fc.property(edges, (all) => {
      const cycle = findCycle(all);
      expect(cycle === null).toBe(hasOrder(all));
      if (cycle === null) return;
      expect(cycle.length).toBeGreaterThan(1);
      expect(cycle[0]).toBe(cycle.at(-1));
      expect(new Set(cycle.slice(1)).size).toBe(cycle.length - 1);
      for (const [index, child] of cycle.slice(0, -1).entries()) {
        expect(all.some((edge) => edge.child === child && edge.parent === cycle[index + 1])).toBe(true);
      }
    }),
    { numRuns: 1000 },
  );
});

test('edges that follow one order have no cycle [SCHED-06]', () => {
  fc.assert(
    fc.property(edges, (all) => {
      const ordered = all.filter(({ parent, child }) => Number(parent) < Number(child));
      expect(findCycle(ordered)).toBeNull();
    }),
  );
});

test('a task that waits for itself is a cycle [SCHED-06]', () => {
  expect(findCycle([{ parent: 'a', child: 'a' }])).toEqual(['a', 'a']);
});

test('a chain of 100,000 is walked without exhausting the stack', () => {
  const chain = Array.from({ length: 100_000 }, (_, index) => ({ parent: String(index), child: String(index + 1) }));
  expect(findCycle(chain)).toBeNull();
  expect(findCycle([...chain, { parent: '100000', child: '0' }])).toHaveLength(100_002);
});
