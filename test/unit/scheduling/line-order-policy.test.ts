import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Head } from '../../../contract/line.js';
import type { ResidencyRow } from '../../../contract/residency.js';
import { continuationMaxMs, lineOrderPolicy } from '../../../scheduling/line-order-policy.js';
import type { HostState, SlotSet, Snapshot } from '../../../scheduling/policy.js';

const host: HostState = { host: 'local', hostEpoch: 1, parallel: 1 };
const empty: Snapshot = { heads: [], slots: [], hosts: [host], residency: [], openOrders: [], continuations: [], backingOff: [] };

function head(row: number, key: string | null): Head {
  return { row: String(row), taskId: `task ${row}`, pool: key === null ? 'general' : 'model', key, level: 5, exact: 50, pos: String(row), waitedMs: 0 };
}
function serving(name: string, state: ResidencyRow['state'] = 'serving'): ResidencyRow {
  return { host: 'local', hostEpoch: 1, key: `${name}~ctx4096`, model: { name, numCtx: 4096 }, state, sinceMs: 0 };
}
function slots(key: string | null, capacity: number, taken: number[] = []): SlotSet {
  return { pool: key === null ? 'general' : 'model', host: key === null ? 'general' : 'local', hostEpoch: key === null ? 0 : 1, key, capacity, taken };
}
const a = 'a:latest~ctx4096';
const b = 'b:latest~ctx4096';

describe('general slots', () => {
  test('go to the first in line, one each, and never to more than are free', () => {
    const { grants } = lineOrderPolicy({ ...empty, heads: [head(1, null), head(2, null), head(3, null)], slots: [slots(null, 3, [2])] });
    expect(grants.map((grant) => [grant.row, grant.slot])).toEqual([
      ['1', 1],
      ['2', 3],
    ]);
  });
});

describe('model slots', () => {
  test('go to steps of the resident model in line order', () => {
    const { grants, orders } = lineOrderPolicy({ ...empty, heads: [head(1, a), head(2, a)], residency: [serving('a:latest')], slots: [slots(a, 2)] });
    expect(grants.map((grant) => grant.row)).toEqual(['1', '2']);
    expect(orders).toEqual([]);
  });

  test('a step behind the head of another model is not served on the old model', () => {
    const { grants, orders } = lineOrderPolicy({ ...empty, heads: [head(1, b), head(2, a)], residency: [serving('a:latest')], slots: [slots(a, 1)] });
    expect(grants).toEqual([]);
    expect(orders).toMatchObject([{ host: 'local', unload: [a], load: { key: b } }]);
  });

  test('a full model keeps those behind waiting, whatever they need', () => {
    const { grants, orders } = lineOrderPolicy({ ...empty, heads: [head(1, a), head(2, b)], residency: [serving('a:latest')], slots: [slots(a, 1, [1])] });
    expect({ grants, orders }).toEqual({ grants: [], orders: [] });
  });

  test('nothing is granted or ordered on a host whose residency is being changed', () => {
    const order = { id: 'o', host: 'local', hostEpoch: 1, unload: [a], load: null };
    const decision = lineOrderPolicy({ ...empty, heads: [head(1, a)], residency: [serving('a:latest')], slots: [slots(a, 1)], openOrders: [order] });
    expect(decision).toEqual({ grants: [], orders: [] });
  });

  test('a plan that goes on with the resident model keeps it until its next step has entered, at most two seconds [TPL-25]', () => {
    const waiting = { ...empty, heads: [head(1, b)], residency: [serving('a:latest')], slots: [slots(a, 1)] };
    const kept = lineOrderPolicy({ ...waiting, continuations: [{ key: a, host: 'local', agoMs: continuationMaxMs - 1 }] });
    const over = lineOrderPolicy({ ...waiting, continuations: [{ key: a, host: 'local', agoMs: continuationMaxMs }] });
    expect(kept.orders).toEqual([]);
    expect(over.orders).toHaveLength(1);
  });

  test('a model that failed to load lets those behind it go on', () => {
    const { orders } = lineOrderPolicy({ ...empty, heads: [head(1, a), head(2, b)], backingOff: [{ host: 'local', key: a }] });
    expect(orders).toMatchObject([{ load: { key: b } }]);
  });

  test('without a host nothing is granted and nothing ordered', () => {
    expect(lineOrderPolicy({ ...empty, hosts: [], heads: [head(1, a)] })).toEqual({ grants: [], orders: [] });
  });
});

test('whatever waits: no slot is given twice, no row twice, and of one model the order of the line is kept', () => {
  const keys = fc.constantFrom(null, a, b);
  fc.assert(
    fc.property(
      fc.array(keys, { maxLength: 30 }),
      fc.integer({ min: 0, max: 4 }),
      fc.integer({ min: 1, max: 4 }),
      fc.constantFrom(undefined, 'a:latest', 'b:latest'),
      (wanted, general, parallel, resident) => {
        const heads = wanted.map((key, index) => head(index + 1, key));
        const residency = resident ? [serving(resident)] : [];
        const decision = lineOrderPolicy({ ...empty, heads, residency, slots: [slots(null, general), ...residency.map((row) => slots(row.key, parallel))] });
        const used = decision.grants.map((grant) => `${grant.pool} ${grant.host} ${grant.slot}`);
        expect(new Set(used).size).toBe(used.length);
        for (const pool of ['general', 'model'] as const) {
          const granted = decision.grants.filter((grant) => grant.pool === pool).map((grant) => Number(grant.row));
          const first = heads
            .filter((candidate) => candidate.pool === pool)
            .map((candidate) => Number(candidate.row))
            .slice(0, granted.length);
          expect(granted).toEqual(first);
        }
        expect(decision.orders.length).toBeLessThanOrEqual(1);
      },
    ),
  );
});
