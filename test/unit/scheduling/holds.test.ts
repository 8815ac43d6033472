import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Needs } from '../../../contract/holds.js';
import type { Head } from '../../../contract/line.js';
import { type HoldsState, mayPass, nothingHeld, reservationOf, shortageOf, withTaken } from '../../../scheduling/holds.js';
import type { HostState, ResidentRow, SlotSet, Snapshot } from '../../../scheduling/policy.js';
import { priorityAffinity } from '../../../scheduling/priority-affinity.js';

const locks = (...names: string[]): Needs => ({ locks: names, amounts: {} });
const amounts = (of: Record<string, number>): Needs => ({ locks: [], amounts: of });
const pools = (...of: [pool: string, total: number, free: number][]): HoldsState => ({
  locks: [],
  pools: of.map(([pool, total, free]) => ({ pool, total, free })),
});

const names = fc.constantFrom('a', 'b', 'c', 'd');
const anyNeeds: fc.Arbitrary<Needs> = fc.record({
  locks: fc.uniqueArray(names, { maxLength: 3 }),
  amounts: fc.dictionary(fc.constantFrom('cpu', 'gpu'), fc.integer({ min: 1, max: 6 }), { maxKeys: 2 }),
});

describe('what a task needs', () => {
  test('is had all of it or not at all, and what is missing is named [CONC-07]', () => {
    const state = { ...pools(['cpu', 4, 2], ['gpu', 1, 1]), locks: ['a'] };
    expect(shortageOf(state, amounts({ cpu: 2, gpu: 1 }))).toBeNull();
    expect(shortageOf(state, amounts({ cpu: 3, gpu: 1 }))).toEqual({ kind: 'resource', pool: 'cpu' });
    expect(shortageOf(state, amounts({ gpu: 2 }))).toEqual({ kind: 'never', pool: 'gpu' });
    expect(shortageOf(state, locks('b', 'a'))).toEqual({ kind: 'lock', lock: 'a' });
    expect(shortageOf(state, amounts({ unheard_of: 1 }))).toEqual({ kind: 'resource', pool: 'unheard_of' });
  });

  test('sums of decimal fractions keep nobody waiting', () => {
    let state = pools(['cpu', 0.3, 0.3]);
    for (let n = 0; n < 2; n += 1) state = withTaken(state, amounts({ cpu: 0.1 }));
    expect(shortageOf(state, amounts({ cpu: 0.1 }))).toBeNull();
  });

  test('whatever is taken and given back in whatever order, no amount is ever negative and no lock has two holders [CONC-07]', () => {
    const move = fc.oneof(
      anyNeeds.map((needs) => ({ take: needs })),
      fc.nat(9).map((index) => ({ end: index })),
    );
    fc.assert(
      fc.property(fc.array(move, { maxLength: 60 }), (moves) => {
        const total = { cpu: 8, gpu: 2 };
        let held: Needs[] = [];
        const now = () => held.reduce(withTaken, pools(['cpu', total.cpu, total.cpu], ['gpu', total.gpu, total.gpu]));
        for (const one of moves) {
          if ('end' in one) held = held.filter((_, index) => index !== one.end);
          else if (shortageOf(now(), one.take) === null) held = [...held, one.take];
          const state = now();
          for (const { free } of state.pools) expect(free).toBeGreaterThanOrEqual(0);
          expect(new Set(held.flatMap((needs) => needs.locks)).size).toBe(held.flatMap((needs) => needs.locks).length);
        }
      }),
    );
  });
});

describe('the reservation', () => {
  const large = { id: 'large', needs: amounts({ gpu: 2, cpu: 3 }) };
  const state = pools(['gpu', 2, 1], ['cpu', 8, 6]);

  test('belongs to the earliest task that lacks something it may have one day [SCHED-23]', () => {
    const never = { id: 'never', needs: amounts({ gpu: 3 }) };
    const fits = { id: 'fits', needs: amounts({ gpu: 1 }) };
    expect(reservationOf(state, [fits, never, large, { id: 'later', needs: amounts({ gpu: 2 }) }])?.of.id).toBe('large');
    expect(reservationOf(state, [fits, never])).toBeNull();
  });

  test('keeps what it lacks and as much as it needs of the rest; what is beyond that goes to others [SCHED-23]', () => {
    const reservation = reservationOf(state, [large]);
    if (!reservation) throw new Error('expected a reservation');
    expect(mayPass(state, reservation, { needs: amounts({ gpu: 1 }) })).toBe(false);
    expect(mayPass(state, reservation, { needs: amounts({ cpu: 3 }) })).toBe(true);
    expect(mayPass(state, reservation, { needs: amounts({ cpu: 4 }) })).toBe(false);
    expect(mayPass(state, reservation, { needs: locks('a') })).toBe(true);
    expect(mayPass(state, reservation, { needs: null })).toBe(true);
  });

  test('lets a task pass that will have given back what it takes before the other one can start [SCHED-23]', () => {
    const reservation = reservationOf(state, [{ ...large, startsMs: 10_000 }]);
    if (!reservation) throw new Error('expected a reservation');
    expect(mayPass(state, reservation, { needs: amounts({ gpu: 1 }), lastsMs: 10_000 })).toBe(true);
    expect(mayPass(state, reservation, { needs: amounts({ gpu: 1 }), lastsMs: 10_001 })).toBe(false);
    expect(mayPass(state, reservation, { needs: amounts({ gpu: 1 }), lastsMs: null })).toBe(false);
    expect(mayPass(state, reservation, { needs: amounts({ gpu: 2 }), lastsMs: 1 })).toBe(false);
  });

  test('whatever passes, its task still finds free what it found free before, so that it only waits for those who hold already [SCHED-23]', () => {
    fc.assert(
      fc.property(
        anyNeeds,
        anyNeeds,
        fc.integer({ min: 0, max: 8 }),
        fc.integer({ min: 0, max: 2 }),
        fc.subarray(['a', 'b', 'c', 'd']),
        (first, later, cpu, gpu, taken) => {
          const now = { ...pools(['cpu', 8, cpu], ['gpu', 2, gpu]), locks: taken };
          const reservation = reservationOf(now, [{ needs: first }]);
          fc.pre(reservation !== null && mayPass(now, reservation, { needs: later }));
          const after = withTaken(now, later);
          for (const lock of first.locks) expect(after.locks.includes(lock)).toBe(now.locks.includes(lock));
          for (const [pool, amount] of Object.entries(first.amounts)) {
            const free = (of: HoldsState) => of.pools.find((each) => each.pool === pool)?.free ?? 0;
            if (free(now) >= amount) expect(free(after)).toBeGreaterThanOrEqual(amount);
            else expect(free(after)).toBe(free(now));
          }
        },
      ),
    );
  });
});

describe('a decision', () => {
  const decide = priorityAffinity();
  const general: SlotSet = { pool: 'general', host: 'general', hostEpoch: 0, key: null, capacity: 4, taken: [] };
  const empty: Snapshot = {
    ...{ heads: [], slots: [general], hosts: [], residency: [], openOrders: [], continuations: [], backingOff: [], costs: [], backlog: [], soon: [] },
    holds: nothingHeld,
  };
  const head = (row: number, needs: Needs | null, level = 5): Head => ({
    ...{ row: String(row), taskId: `task ${row}`, pool: 'general', key: null, level, exact: level * 10, place: row, waitedMs: 0, continues: false },
    needs,
  });
  const granted = (snapshot: Partial<Snapshot>) => decide({ ...empty, ...snapshot }).grants.map(({ row }) => row);

  test('gives a lock to the first in line, and others pass who need nothing [CONC-02]', () => {
    expect(granted({ heads: [head(1, locks('a')), head(2, locks('a', 'b')), head(3, null), head(4, locks('b')), head(5, locks('c'))] })).toEqual([
      '1',
      '3',
      '5',
    ]);
    expect(granted({ heads: [head(1, locks('a')), head(2, locks('a'), 9)] })).toEqual(['2']);
  });

  test('takes nothing for a step that finds no slot', () => {
    const full = { ...general, capacity: 1, taken: [1] };
    expect(granted({ slots: [full], heads: [head(1, locks('a'))] })).toEqual([]);
    const model: Head = { ...head(1, locks('a')), pool: 'model', key: 'm~ctx1' };
    expect(granted({ heads: [model, head(2, locks('a'))] })).toEqual(['2']);
  });

  test('small tasks do not starve a large one that is before them, and it does not block them for ever [SCHED-23]', () => {
    const lacking = [head(1, amounts({ gpu: 2 }))];
    const holds = pools(['gpu', 2, 1], ['cpu', 8, 8]);
    expect(granted({ holds, lacking, heads: [head(2, amounts({ gpu: 1 })), head(3, amounts({ cpu: 2 })), head(4, null)] })).toEqual(['3', '4']);
    expect(granted({ holds, lacking, heads: [head(2, amounts({ gpu: 1 }), 6)] })).toEqual(['2']);
    expect(granted({ holds, lacking: [head(1, amounts({ gpu: 3 }))], heads: [head(2, amounts({ gpu: 1 }))] })).toEqual(['2']);
  });

  const model = 'm:latest~ctx1';
  const hostNames = ['h1', 'h2', 'h3'];
  const hostOf = (host: string, paused: boolean): HostState => ({
    ...{ host, hostEpoch: 1, parallel: 1, modelsMax: 1, roomBytes: null, budgetBytes: null },
    paused,
  });
  const residentOn = (host: string, state: ResidentRow['state']): ResidentRow => ({
    ...{ host, hostEpoch: 1, key: model, model: { name: 'm:latest', numCtx: 1 } },
    ...{ state, sinceMs: 0, servedMs: 0 },
  });
  const ofModel = (each: Head): Head => ({ ...each, pool: 'model', key: model });
  const standing = fc.record({
    up: fc.boolean(),
    paused: fc.boolean(),
    failed: fc.boolean(),
    has: fc.constantFrom(null, 'loading' as const, 'draining' as const),
  });

  test('keeps for a task whose model no host can serve nothing at all, and for any other what it lacks [SCHED-23]', () => {
    fc.assert(
      fc.property(fc.tuple(standing, standing, standing), (states) => {
        const of = states.map((state, index) => ({ ...state, host: hostNames[index] ?? '' }));
        const snapshot = {
          holds: pools(['gpu', 2, 1], ['cpu', 8, 6]),
          hosts: of.flatMap(({ host, up, paused }) => (up ? [hostOf(host, paused)] : [])),
          residency: of.flatMap(({ host, has }) => (has === null ? [] : [residentOn(host, has)])),
          backingOff: of.flatMap(({ host, failed }) => (failed ? [{ host, key: model }] : [])),
          heads: [head(3, amounts({ gpu: 1 })), head(4, amounts({ cpu: 6 }))],
        };
        const unserved = ofModel(head(1, amounts({ gpu: 2 })));
        const next = head(2, amounts({ cpu: 8 }));
        const canBeServed = of.some(({ up, paused, failed, has }) => up && !paused && (!failed || has === 'loading'));
        // The next one in line keeps what it lacks instead, as if the first one were not there.
        expect(granted({ ...snapshot, lacking: [unserved, next] })).toEqual(canBeServed ? ['4'] : granted({ ...snapshot, lacking: [next] }));
        expect(granted({ ...snapshot, lacking: [next] })).toEqual(['3']);
      }),
    );
  });

  test('whenever its model can be had again, the first in line starts as soon as those that hold have ended, however many small ones come [SCHED-23]', () => {
    const lastsMax = 3;
    const windows = fc.array(fc.record({ away: fc.integer({ min: 1, max: 6 }), back: fc.integer({ min: 1, max: 2 }) }), { maxLength: 4 });
    fc.assert(
      fc.property(windows, fc.array(fc.integer({ min: 1, max: lastsMax }), { minLength: 80, maxLength: 80 }), (outages, lasts) => {
        const away = outages.flatMap((each) => [...Array<boolean>(each.away).fill(true), ...Array<boolean>(each.back).fill(false)]);
        const large = ofModel(head(0, amounts({ gpu: 2 })));
        let small = 0;
        // Both halves are taken when it comes, and one of them longer than the other.
        let running = [
          { slot: 1, until: 1 },
          { slot: 2, until: 2 },
        ];
        for (let now = 0; ; now += 1) {
          expect(now).toBeLessThanOrEqual(away.length + lastsMax);
          running = running.filter(({ until }) => until > now);
          const free = 2 - running.length;
          const isAway = away[now] ?? false;
          const comes = [head(small + 1, amounts({ gpu: 1 })), head(small + 2, amounts({ gpu: 1 }))];
          const decision = decide({
            ...empty,
            holds: pools(['gpu', 2, free]),
            slots: [
              { ...general, taken: running.map(({ slot }) => slot) },
              ...(isAway ? [] : [{ pool: 'model' as const, host: 'h1', hostEpoch: 1, key: model, capacity: 1, taken: [] }]),
            ],
            hosts: [hostOf('h1', false)],
            residency: isAway ? [] : [residentOn('h1', 'serving')],
            backingOff: isAway ? [{ host: 'h1', key: model }] : [],
            heads: [...(free === 2 ? [large] : []), ...(free > 0 ? comes : [])],
            lacking: [...(free < 2 ? [large] : []), ...(free > 0 ? [] : comes)],
          });
          if (decision.grants.some(({ row }) => row === large.row)) return;
          expect(decision.grants).toHaveLength(isAway ? free : 0); // nothing is left empty for one that cannot start
          for (const { slot } of decision.grants) running.push({ slot, until: now + (lasts[small % lasts.length] ?? 1) });
          small += decision.grants.length;
        }
      }),
    );
  });

  test('under any arrivals and ends, in the end everybody has run, and nothing was ever held twice [SCHED-23, CONC-07]', () => {
    const total = { cpu: 4, gpu: 2 };
    const task = fc.record({ needs: fc.option(anyNeeds), lasts: fc.integer({ min: 1, max: 5 }), level: fc.integer({ min: 1, max: 10 }) });
    fc.assert(
      fc.property(fc.array(task, { maxLength: 25 }), fc.integer({ min: 1, max: 3 }), (tasks, capacity) => {
        const possible = tasks.filter(
          ({ needs }) => needs === null || Object.entries(needs.amounts).every(([pool, amount]) => amount <= total[pool as 'cpu' | 'gpu']),
        );
        let waiting = possible.map((each, index) => ({ ...each, head: head(index + 1, each.needs, each.level) }));
        let running: { slot: number; until: number; needs: Needs | null }[] = [];
        for (let now = 0; waiting.length > 0; now += 1) {
          expect(now).toBeLessThan(6 * 25);
          running = running.filter(({ until }) => until > now);
          const holds = running.flatMap(({ needs }) => needs ?? []).reduce(withTaken, pools(['cpu', total.cpu, total.cpu], ['gpu', total.gpu, total.gpu]));
          const lacks = ({ needs }: { needs: Needs | null }) => needs !== null && shortageOf(holds, needs) !== null;
          const { grants } = decide({
            ...empty,
            holds,
            slots: [{ ...general, capacity, taken: running.map(({ slot }) => slot) }],
            heads: waiting.filter((each) => !lacks(each)).map((each) => each.head),
            lacking: waiting.filter(lacks).map((each) => each.head),
          });
          for (const { row, slot } of grants) {
            const started = waiting.find((each) => each.head.row === row);
            if (!started) throw new Error('granted twice');
            running.push({ slot, until: now + started.lasts, needs: started.needs });
            waiting = waiting.filter((each) => each !== started);
          }
          const held = running.flatMap(({ needs }) => needs?.locks ?? []);
          expect(new Set(held).size).toBe(held.length);
          for (const pool of ['cpu', 'gpu'] as const)
            expect(running.reduce((sum, { needs }) => sum + (needs?.amounts[pool] ?? 0), 0)).toBeLessThanOrEqual(total[pool]);
        }
      }),
    );
  });
});
