import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Head } from '../../../contract/line.js';
import { continuationMaxMs } from '../../../scheduling/choose-orders.js';
import { priorityAffinity } from '../../../scheduling/priority-affinity.js';
import type { HostState, ResidentRow, SlotSet, Snapshot } from '../../../scheduling/policy.js';
import { emptySnapshot, waitingHead } from '../../support/snapshots.js';

const decide = priorityAffinity();
const host: HostState = { host: 'local', hostEpoch: 1, parallel: 1, modelsMax: 1, roomBytes: null, budgetBytes: null, paused: false };
const empty: Snapshot = { ...emptySnapshot, hosts: [host] };

function head(row: number, key: string | null, level = 5): Head {
  return waitingHead(row, { pool: key === null ? 'general' : 'model', key, level, exact: level * 10 });
}
function serving(name: string, state: ResidentRow['state'] = 'serving', servedMs = 1e9, on = 'local'): ResidentRow {
  return { host: on, hostEpoch: 1, key: `${name}~ctx4096`, model: { name, numCtx: 4096 }, state, sinceMs: 0, servedMs };
}
function slots(key: string | null, capacity: number, taken: number[] = []): SlotSet {
  return { pool: key === null ? 'general' : 'model', host: key === null ? 'general' : 'local', hostEpoch: key === null ? 0 : 1, key, capacity, taken };
}
const a = 'a:latest~ctx4096';
const b = 'b:latest~ctx4096';

describe('general slots', () => {
  test('go to the first in line, one each, and never to more than are free', () => {
    const { grants } = decide({ ...empty, heads: [head(1, null), head(2, null), head(3, null)], slots: [slots(null, 3, [2])] });
    expect(grants.map((grant) => [grant.row, grant.slot])).toEqual([
      ['1', 1],
      ['2', 3],
    ]);
  });

  test('are as many as there are more than what runs, also where an engine that drains runs steps in slots beyond their number', () => {
    const granted = (taken: number[]) => decide({ ...empty, heads: [head(1, null), head(2, null)], slots: [slots(null, 2, taken)] }).grants.length;
    expect([[3, 4], [2, 3, 4], [4], []].map(granted)).toEqual([0, 0, 1, 2]);
  });
});

describe('model slots', () => {
  test('go to steps of the resident model in line order', () => {
    const { grants, orders } = decide({ ...empty, heads: [head(1, a), head(2, a)], residency: [serving('a:latest')], slots: [slots(a, 2)] });
    expect(grants.map((grant) => grant.row)).toEqual(['1', '2']);
    expect(orders).toEqual([]);
  });

  test('a loaded model serves its steps for as long as what its load bought lasts, then the first waiting one gets its model [SCHED-02, SCHED-04]', () => {
    const waiting = { ...empty, heads: [head(1, b), head(2, a)], slots: [slots(a, 1)], costs: [{ host: 'local', key: a, loadMs: 1_000, bytes: null }] };
    const within = decide({ ...waiting, residency: [serving('a:latest', 'serving', 18_999)] });
    expect(within).toMatchObject({ grants: [{ row: '2' }], orders: [], heldBack: [{ key: b, why: 'quantum', other: a, leftMs: 1 }] });
    const over = decide({ ...waiting, residency: [serving('a:latest', 'serving', 19_000)] });
    expect(over).toMatchObject({ grants: [], orders: [{ host: 'local', unload: [a], load: { key: b }, terms: [{ key: a, affinity: 0 }] }] });
  });

  test('urgent work takes the place of other work at once, and waits for nobody but urgent work [SCHED-01, SCHED-09]', () => {
    const waiting = { ...empty, residency: [serving('a:latest', 'serving', 0)], slots: [slots(a, 1)] };
    expect(decide({ ...waiting, heads: [head(1, a), head(2, b, 10)] })).toMatchObject({ grants: [], orders: [{ unload: [a], load: { key: b } }] });
    expect(decide({ ...waiting, heads: [head(1, a), head(2, a, 10)] })).toMatchObject({ grants: [{ row: '2' }], orders: [] });
  });

  test('a full model keeps those behind waiting, while what it serves is within its quantum', () => {
    const { grants, orders } = decide({ ...empty, heads: [head(1, a), head(2, b)], residency: [serving('a:latest', 'serving', 0)], slots: [slots(a, 1, [1])] });
    expect({ grants, orders }).toEqual({ grants: [], orders: [] });
  });

  test('a model is loaded beside another one where there is room for both, and both serve [MODEL-09]', () => {
    const roomy = { ...empty, hosts: [{ ...host, modelsMax: 2 }], residency: [serving('a:latest', 'serving', 0)], slots: [slots(a, 1)] };
    expect(decide({ ...roomy, heads: [head(1, a), head(2, b)] })).toMatchObject({ grants: [{ row: '1' }], orders: [{ unload: [], load: { key: b } }] });
  });

  test('while one model is exchanged for another, a third one that stays goes on serving, and the one that goes takes nothing more', () => {
    const order = { id: 'o', host: 'local', hostEpoch: 1, unload: [a], load: { key: 'c:latest~ctx4096', model: { name: 'c:latest', numCtx: 4096 } } };
    const decision = decide({
      ...empty,
      hosts: [{ ...host, modelsMax: 2 }],
      heads: [head(1, a), head(2, b)],
      residency: [serving('a:latest'), serving('b:latest')],
      slots: [slots(a, 1), slots(b, 1)],
      openOrders: [order],
    });
    expect(decision).toMatchObject({ grants: [{ row: '2' }], orders: [] });
  });

  test('a small model is not loaded into the room that the first in line is waiting for', () => {
    const big = 'big:latest~ctx4096';
    const cost = (key: string, bytes: number) => ({ host: 'local', key, loadMs: 1_000, bytes });
    const decision = decide({
      ...empty,
      hosts: [{ ...host, modelsMax: 3, roomBytes: 10, budgetBytes: 10 }],
      heads: [head(1, big), head(2, a), head(3, b)],
      residency: [serving('a:latest', 'serving', 0)],
      slots: [slots(a, 1)],
      costs: [cost(a, 2), cost(big, 9), cost(b, 2)],
    });
    expect(decision).toMatchObject({
      orders: [],
      heldBack: [
        { key: big, why: 'quantum' },
        { key: b, why: 'behind', other: big },
      ],
    });
  });

  test('a model that fits nowhere is refused, one that other programs leave no room for waits [MODEL-09]', () => {
    const large = { ...empty, heads: [head(1, a)], costs: [{ host: 'local', key: a, loadMs: null, bytes: 9 }] };
    expect(decide({ ...large, hosts: [{ ...host, roomBytes: 8, budgetBytes: 8 }] })).toMatchObject({ orders: [], refusals: [{ key: a }] });
    expect(decide({ ...large, hosts: [{ ...host, roomBytes: 8, budgetBytes: 16 }] })).toMatchObject({
      orders: [],
      refusals: [],
      heldBack: [{ key: a, why: 'no_room' }],
    });
  });

  test('what a running plan is going to need is loaded early where nothing has to go for it, and never in place of what waits', () => {
    const soon = { ...empty, hosts: [{ ...host, modelsMax: 2 }], residency: [serving('a:latest')], slots: [slots(a, 1)], soon: [{ key: b, inMs: 4_000 }] };
    expect(decide(soon)).toMatchObject({ orders: [{ unload: [], load: { key: b } }] });
    expect(decide({ ...soon, hosts: [host] })).toMatchObject({ orders: [] });
  });

  test('with several hosts the model goes to the one where nobody loses it, and a second copy only where much waits [MODEL-17]', () => {
    const hosts = [host, { ...host, host: 'other' }];
    const two = { ...empty, hosts, residency: [serving('a:latest', 'serving', 0)], slots: [slots(a, 1)] };
    expect(decide({ ...two, heads: [head(1, a), head(2, b)] })).toMatchObject({ orders: [{ host: 'other', unload: [], load: { key: b } }] });
    expect(decide({ ...two, heads: [head(1, a)], backlog: [{ key: a, waiting: 2, serviceMs: 1_000 }] })).toMatchObject({ orders: [] });
    expect(decide({ ...two, heads: [head(1, a)], backlog: [{ key: a, waiting: 200, serviceMs: 1_000 }] })).toMatchObject({
      orders: [{ host: 'other', load: { key: a } }],
    });
  });

  test('a model goes to a host that has it, and is fetched to another only where none does or can [MODEL-17]', () => {
    const hosts = [host, { ...host, host: 'other' }];
    const there = [{ host: 'other', key: b, loadMs: null, bytes: 5 }];
    const free = { ...empty, hosts, heads: [head(1, b)], costs: there };
    expect(decide(free)).toMatchObject({ orders: [{ host: 'other', load: { key: b } }] });
    expect(decide({ ...free, costs: [] })).toMatchObject({ orders: [{ host: 'local' }] });
    const away = { ...free, costs: [{ ...there[0]!, host: 'restarting' }] };
    expect(decide(away)).toMatchObject({ orders: [], refusals: [], heldBack: [{ key: b, why: 'no_host' }] });
    expect(decide({ ...away, costs: [...away.costs, ...there] })).toMatchObject({ orders: [{ host: 'other' }] });
    expect(decide({ ...free, backingOff: [{ host: 'other', key: b }] })).toMatchObject({ orders: [{ host: 'local' }] });
    const changing = { ...free, openOrders: [{ id: 'o', host: 'other', hostEpoch: 1, unload: [], load: null }] };
    expect(decide(changing)).toMatchObject({ orders: [], heldBack: [{ key: b, host: 'other', why: 'changing' }] });
    const copied = {
      ...empty,
      hosts,
      heads: [head(1, a)],
      backlog: [{ key: a, waiting: 200, serviceMs: 1_000 }],
      residency: [serving('a:latest')],
      slots: [slots(a, 1)],
    };
    expect(decide({ ...copied, costs: [{ host: 'local', key: a, loadMs: 100, bytes: 5 }] })).toMatchObject({ orders: [] });
    expect(decide({ ...copied, costs: hosts.map((each) => ({ host: each.host, key: a, loadMs: 100, bytes: 5 })) })).toMatchObject({
      orders: [{ host: 'other' }],
    });
    expect(decide({ ...free, heads: [], soon: [{ key: b, inMs: 4_000 }] })).toMatchObject({ orders: [{ host: 'other', load: { key: b } }] });
  });

  test('a paused host takes no grants and no changes', () => {
    const paused = { ...empty, hosts: [{ ...host, paused: true }], heads: [head(1, a), head(2, b)], residency: [serving('a:latest')], slots: [slots(a, 1)] };
    expect(decide(paused)).toMatchObject({ grants: [], orders: [] });
  });

  test('nothing is granted or ordered on a host whose residency is being changed', () => {
    const order = { id: 'o', host: 'local', hostEpoch: 1, unload: [a], load: null };
    const decision = decide({ ...empty, heads: [head(1, a)], residency: [serving('a:latest')], slots: [slots(a, 1)], openOrders: [order] });
    expect(decision).toMatchObject({ grants: [], orders: [] });
  });

  test('a plan that goes on with the resident model keeps it until its next step has entered, at most two seconds [TPL-25]', () => {
    const waiting = { ...empty, heads: [head(1, b)], residency: [serving('a:latest')], slots: [slots(a, 1)] };
    const kept = decide({ ...waiting, continuations: [{ key: a, host: 'local', agoMs: continuationMaxMs - 1, level: 5 }] });
    const over = decide({ ...waiting, continuations: [{ key: a, host: 'local', agoMs: continuationMaxMs, level: 5 }] });
    expect(kept.orders).toEqual([]);
    expect(over.orders).toHaveLength(1);
  });

  test('a model whose time is over serves only plans that go on with it, then goes [TPL-25]', () => {
    const over = { ...empty, residency: [serving('a:latest')], slots: [slots(a, 1)] };
    const goingOn = { ...head(3, a), continues: true };
    expect(decide({ ...over, heads: [head(1, b), head(2, a), goingOn] })).toMatchObject({ grants: [{ row: '3' }], orders: [] });
    expect(decide({ ...over, heads: [head(1, b), head(2, a)] })).toMatchObject({ grants: [], orders: [{ unload: [a], load: { key: b } }] });
  });

  test('a model whose time is over goes on while one of its steps is first in line, and after that gives way [SCHED-04]', () => {
    const over = { ...empty, residency: [serving('a:latest')], slots: [slots(a, 1)] };
    expect(decide({ ...over, heads: [head(1, a), head(2, b)] })).toMatchObject({
      grants: [{ row: '1' }],
      orders: [],
      heldBack: [{ key: b, why: 'behind', other: a }],
    });
    expect(decide({ ...over, heads: [head(2, b), head(3, a)] })).toMatchObject({ grants: [], orders: [{ unload: [a], load: { key: b } }] });
  });

  test('of a model whose time is over no step overtakes the one that waits for its place, however many slots are free', () => {
    const over = { ...empty, residency: [serving('a:latest')], slots: [slots(a, 2)] };
    expect(decide({ ...over, heads: [head(1, a), head(2, b), head(3, a)] })).toMatchObject({ grants: [{ row: '1' }], orders: [] });
  });

  test('waiting gives a step its turn and does not shorten what a load has bought [SCHED-04]', () => {
    const raised = { ...head(2, b, 2), waitedMs: 1e9 };
    const costs = [{ host: 'local', key: a, loadMs: 1_000, bytes: null }];
    const decision = decide({ ...empty, heads: [head(1, a), raised], residency: [serving('a:latest', 'serving', 18_000)], slots: [slots(a, 1)], costs });
    expect(decision).toMatchObject({ grants: [{ row: '1' }], heldBack: [{ key: b, why: 'quantum', other: a, leftMs: 1_000 }] });
  });

  test('while a large model waits for plans on several, none of these takes up new plans, so that they end [TPL-25]', () => {
    const big = 'big:latest~ctx4096';
    const cost = (key: string, bytes: number) => ({ host: 'local', key, loadMs: 1_000, bytes });
    const decision = decide({
      ...empty,
      hosts: [{ ...host, modelsMax: 3, roomBytes: 10, budgetBytes: 10 }],
      heads: [head(1, big), { ...head(2, a), continues: true }, head(3, b)],
      residency: [serving('a:latest'), serving('b:latest')],
      slots: [slots(a, 1), slots(b, 1)],
      costs: [cost(a, 5), cost(b, 5), cost(big, 9)],
    });
    expect(decision).toMatchObject({ grants: [{ row: '2' }], orders: [], heldBack: [{ key: big, why: 'quantum', leftMs: 0 }] });
  });

  test('a model that failed to load lets those behind it go on', () => {
    const { orders } = decide({ ...empty, heads: [head(1, a), head(2, b)], backingOff: [{ host: 'local', key: a }] });
    expect(orders).toMatchObject([{ load: { key: b } }]);
  });

  test('without a host nothing is granted and nothing ordered', () => {
    expect(decide({ ...empty, hosts: [], heads: [head(1, a)] })).toMatchObject({ grants: [], orders: [] });
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
        const decision = decide({ ...empty, heads, residency, slots: [slots(null, general), ...residency.map((row) => slots(row.key, parallel))] });
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

describe('urgent work while a change is under way', () => {
  const c = 'c:latest~ctx4096';
  const order = { id: 'order', host: 'local', hostEpoch: 1, unload: [a], load: { key: b, model: { name: 'b:latest', numCtx: 4096 } } };
  const draining: Snapshot = { ...empty, heads: [head(1, b)], residency: [serving('a:latest', 'draining')], slots: [slots(a, 1, [1])], openOrders: [order] };
  const ordersWith = (more: Partial<Snapshot>) => decide({ ...draining, revisable: [order.id], ...more }).orders;

  test('the open order is changed for it, so that it waits for one load; what was to go still goes [SCHED-09]', () => {
    const urgent = { heads: [head(1, b), head(2, c, 9)] };
    expect(ordersWith(urgent)).toEqual([
      expect.objectContaining({ revises: order.id, unload: [a], load: expect.objectContaining({ key: c }), reason: expect.stringContaining('urgent') }),
    ]);
    // what else is in the way goes too, where nothing waits for it
    const two = { hosts: [{ ...host, modelsMax: 2 }], residency: [serving('a:latest', 'draining'), serving('b:latest')] };
    const other = { ...order, load: { key: 'd:latest~ctx4096', model: { name: 'd:latest', numCtx: 4096 } } };
    expect(ordersWith({ ...two, openOrders: [other], heads: [head(2, c, 9)] })).toEqual([expect.objectContaining({ unload: [a] })]);
  });

  test('the open order is given up for work on what it was to unload, so that it waits for no load [SCHED-09]', () => {
    const urgent = { ...draining, revisable: [order.id], heads: [head(1, b), head(2, a, 9)] };
    expect(decide(urgent)).toMatchObject({ orders: [], keeps: [{ host: 'local', order: order.id, key: a, reason: expect.stringContaining(b) }] });
    expect(decide({ ...urgent, hosts: [host, { ...host, host: 'other' }] }).keeps).toHaveLength(1); // rather than loaded on a host that is free
    expect(decide({ ...urgent, heads: [head(1, b), head(2, a, 8)] }).keeps).toEqual([]);
    expect(decide({ ...urgent, heads: [head(1, b, 9), head(2, a, 10)] }).keeps).toEqual([]);
    expect(decide({ ...urgent, residency: [serving('a:latest')] }).keeps).toHaveLength(1); // it has not begun to drain
    expect(decide({ ...urgent, revisable: [] }).keeps).toEqual([]);
    // it has been unloaded, and its load is ordered instead of the other one
    expect(decide({ ...urgent, residency: [] })).toMatchObject({ keeps: [], orders: [{ revises: order.id, load: { key: a } }] });
  });

  test('nothing is changed for less urgent work, nor an order that is for urgent work itself or whose load has begun [SCHED-09]', () => {
    expect(ordersWith({ heads: [head(1, b), head(2, c, 8)] })).toEqual([]);
    expect(ordersWith({ heads: [head(1, b, 9), head(2, c, 10)] })).toEqual([]);
    expect(ordersWith({ heads: [head(1, b), head(2, c, 9)], revisable: [] })).toEqual([]);
    expect(ordersWith({ heads: [head(1, b), head(2, c, 9)], backingOff: [{ host: 'local', key: c }] })).toEqual([]);
  });

  test('a host that can load it at once is preferred', () => {
    const hosts = [host, { ...host, host: 'other' }];
    expect(ordersWith({ heads: [head(1, b), head(2, c, 9)], hosts })).toEqual([expect.not.objectContaining({ revises: order.id })]);
  });
});
