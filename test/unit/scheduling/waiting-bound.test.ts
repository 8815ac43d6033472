import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { SimStep } from '../../../bench/simulator/line.js';
import { productScheduler } from '../../../bench/simulator/ours.js';
import { type Done, type Moves, type SimHostSettings, simulate, type View, type World } from '../../../bench/simulator/simulate.js';
import { priorityAffinity } from '../../../scheduling/priority-affinity.js';
import { quantumMaxMs, quantumMinMs } from '../../../scheduling/quantum.js';
import { compareWaiting, defaultMaxWaitsMs, raisedLevelMax } from '../../../scheduling/waiting-order.js';

/** Short enough for steps to be raised within a test, each level less than the one below it, as in the product. */
const maxWaitsMs = defaultMaxWaitsMs.map((ms) => ms / 100);
const ours = () => productScheduler(priorityAffinity({ maxWaitsMs }), maxWaitsMs);
const keyOf = (model: number) => `m${model}:latest~ctx4096`;

/** When a step counts as level 8 at the latest. */
const raisedAfterMs = ({ level }: SimStep) => Math.max(1, raisedLevelMax - level) * (maxWaitsMs[level - 1] ?? 0);

/**
 * The bound of docs/decisions/0007-residency-policy.md: from when it is raised to level 8, a step waits for those that came before it and wait then, each of
 * which may cost a change: what another model's load has bought, the steps that run on it, two loads. Every step of the load is below level 9.
 */
function boundMs(step: Done, done: readonly Done[], world: World): number {
  const raisedMs = step.enteredMs + raisedAfterMs(step.step);
  const slowest = Math.max(...world.hosts.map(({ parallel, modelsMax, compute }) => Math.max(1, (parallel * modelsMax) / compute)));
  const before = done.filter((each) => each.step.place < step.step.place && each.endedMs > raisedMs);
  const longestMs = slowest * Math.max(...done.map((each) => each.step.serviceMs));
  const loadMs = Math.max(...world.models.map((model) => model.loadMs));
  const quantum = Math.min(quantumMaxMs, Math.max(quantumMinMs, 19 * loadMs));
  const parallel = Math.max(...world.hosts.map((each) => each.parallel));
  const change = slowest * parallel * quantum + 2 * (longestMs + loadMs);
  return raisedAfterMs(step.step) + slowest * before.reduce((sum, each) => sum + each.step.serviceMs, 0) + (before.length + 1) * change;
}

interface Load {
  readonly world: World;
  readonly steps: readonly SimStep[];
}

function loadOf(hosts: readonly SimHostSettings[]): fc.Arbitrary<Load> {
  const step = fc.record({
    gapMs: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 5_000 }), fc.integer({ min: 0, max: 60_000 })),
    model: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 6 })),
    level: fc.oneof(fc.constant(5), fc.integer({ min: 1, max: 8 })),
    within: fc.integer({ min: -9, max: 0 }),
    serviceMs: fc.oneof(fc.integer({ min: 1, max: 2_000 }), fc.integer({ min: 1, max: 20_000 })),
  });
  return fc
    .record({
      steps: fc.array(step, { minLength: 1, maxLength: 80 }),
      loads: fc.array(fc.integer({ min: 1, max: 8_000 }), { minLength: 6, maxLength: 6 }),
      bytes: fc.array(fc.integer({ min: 1, max: 10 }), { minLength: 6, maxLength: 6 }),
    })
    .map(({ steps, loads, bytes }) => {
      let arrivalMs = 0;
      return {
        world: { hosts, models: loads.map((loadMs, index) => ({ key: keyOf(index + 1), loadMs, bytes: bytes[index] ?? 1 })) },
        steps: steps.map(({ gapMs, model, level, within, serviceMs }, index) => {
          arrivalMs += gapMs;
          return { place: index + 1, arrivalMs, key: keyOf(model), level, exact: level * 10 + within, serviceMs };
        }),
      };
    });
}

const host = (more: Partial<SimHostSettings> = {}): SimHostSettings => ({ host: 'local', parallel: 1, modelsMax: 1, bytes: null, compute: 100, ...more });
const machines: readonly (readonly [string, readonly SimHostSettings[]])[] = [
  ['one host with one slot', [host()]],
  ['one host with two slots of one model', [host({ parallel: 2 })]],
  ['one host that holds three models', [host({ modelsMax: 3 })]],
  ['one host whose memory is what limits it', [host({ modelsMax: 4, bytes: 12, parallel: 2 })]],
  ['two hosts', [host({ modelsMax: 2 }), host({ host: 'other', parallel: 2 })]],
  ['one host whose models share its compute', [host({ modelsMax: 3, compute: 1 })]],
];

describe.each(machines)('%s', (_, hosts) => {
  test('whatever arrives: every step below level 9 starts within its bound [SCHED-04]', () => {
    fc.assert(
      fc.property(loadOf(hosts), ({ world, steps }) => {
        const { done } = simulate(world, steps, ours());
        expect(done).toHaveLength(steps.length);
        for (const step of done) expect(step.startedMs - step.enteredMs).toBeLessThanOrEqual(boundMs(step, done, world));
      }),
      { numRuns: 60 },
    );
  });

  test('whatever arrives: steps of one model start in the order of the line, no slot is given twice, and no slot of a model that serves stays free for nothing', () => {
    fc.assert(
      fc.property(loadOf(hosts), ({ world, steps }) => {
        simulate(world, steps, ours(), { watch: inOrderAndBusy });
      }),
      { numRuns: 60 },
    );
  });
});

/** Looks at each decision: the simulator itself throws where a slot or a step is given twice, or a host holds more than it can. */
function inOrderAndBusy(view: View, { grants, orders }: Moves): void {
  for (const key of new Set([...view.line.keys()])) {
    const waiting = view.line
      .oldestOf(key, Infinity)
      .map((each) => ({ ...each.step, waitedMs: view.nowMs - each.enteredMs }))
      .sort((a, b) => compareWaiting(a, b, maxWaitsMs));
    const granted = grants.filter((grant) => grant.waiting.step.key === key).map((grant) => grant.waiting.step.place);
    expect(granted).toEqual(waiting.slice(0, granted.length).map(({ place }) => place));
    if (granted.length === waiting.length) continue;
    for (const at of view.hosts) {
      const loaded = at.loaded.get(key);
      if (loaded?.state !== 'serving' || orders.some((order) => order.unload.includes(key))) continue;
      const taken = loaded.running.size + grants.filter((grant) => grant.host === at.host && grant.waiting.step.key === key).length;
      // A free slot is kept only for a step that goes before all that wait for the model, where what its load has bought is used up.
      if (taken < at.parallel) expect(keepsFor(view, key, waiting[granted.length] as SimStep & { waitedMs: number })).toBe(true);
    }
  }
  // A host that holds nothing and is asked for nothing while something waits would be idle for nothing.
  const loading = view.hosts.some(({ order }) => order !== null) || orders.length > 0;
  const running = view.hosts.some((each) => [...each.loaded.values()].some((loaded) => loaded.running.size > 0));
  if (view.line.waiting > 0) expect(loading || running || grants.length > 0).toBe(true);
}

function keepsFor(view: View, key: string, next: SimStep & { waitedMs: number }): boolean {
  return [...view.line.keys()].some(
    (other) =>
      other !== key &&
      !view.hosts.some((each) => each.loaded.has(other) && each.loaded.get(other)?.state === 'serving') &&
      view.line.oldestOf(other, Infinity).some((each) => compareWaiting({ ...each.step, waitedMs: view.nowMs - each.enteredMs }, next, maxWaitsMs) < 0),
  );
}

describe('against an endless stream', () => {
  const world: World = { hosts: [host()], models: [1, 2, 3].map((model) => ({ key: keyOf(model), loadMs: 1_000, bytes: 1 })) };
  const stream = (level: number): SimStep[] =>
    Array.from({ length: 600 }, (_, index) => ({ place: 2 * index + 1, arrivalMs: index * 900, key: keyOf(1), level, exact: level * 10, serviceMs: 1_000 }));
  const one = (level: number): SimStep => ({ place: 12, arrivalMs: 5_000, key: keyOf(2), level, exact: level * 10, serviceMs: 1_000 });
  const startOf = (steps: SimStep[]) => {
    const { done } = simulate(world, steps, ours());
    return (done.find(({ step }) => step.place === 12)?.startedMs ?? Infinity) - 5_000;
  };

  test('of equal work a step of another model waits for what the load has bought, and for its own', () => {
    expect(startOf([...stream(5), one(5)])).toBeLessThanOrEqual(19_000 + 1_000 + 1_000);
  });

  test('of more urgent work it waits until it is raised above it', () => {
    expect(startOf([...stream(7), one(4)])).toBeLessThanOrEqual(boundLow(4));
  });

  test('urgent work waits for what runs and its own load [SCHED-01]', () => {
    expect(startOf([...stream(8), one(10)])).toBeLessThanOrEqual(1_000 + 1_000);
  });

  test('nothing but urgent work holds others off without end', () => {
    const starts = startOf([...stream(10), one(8)]);
    expect(starts).toBeGreaterThan(500_000);
    expect(starts).toBeLessThanOrEqual(600 * 1_000 + 2_000);
  });

  function boundLow(level: number): number {
    return (raisedLevelMax - level) * (maxWaitsMs[level - 1] ?? 0) + 19_000 + 4_000;
  }
});
