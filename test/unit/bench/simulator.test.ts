import { expect, test } from 'vitest';
import { burstArrivals, modelsOf, poissonArrivals, stepsOf } from '../../../bench/simulator/arrivals.js';
import { delaysOf, lostShare, overtaken } from '../../../bench/simulator/figures.js';
import { beladyLoads, fifoWaits, makespanMs, shortestFirstWaits } from '../../../bench/simulator/limits.js';
import type { SimStep } from '../../../bench/simulator/line.js';
import { productScheduler } from '../../../bench/simulator/ours.js';
import { peers } from '../../../bench/simulator/peers.js';
import { simulate, type World } from '../../../bench/simulator/simulate.js';
import { priorityAffinity } from '../../../scheduling/priority-affinity.js';

const models = modelsOf(3, 1_000);
const world: World = { models, hosts: [{ host: 'local', parallel: 1, modelsMax: 1, bytes: null, compute: 1 }] };
const step = (place: number, model: number, arrivalMs = 0, serviceMs = 500): SimStep => ({
  place,
  arrivalMs,
  key: models[model]?.key ?? '',
  level: 5,
  exact: 50,
  serviceMs,
});
const ours = () => productScheduler(priorityAffinity());
const alternating = [step(1, 0), step(2, 1), step(3, 0), step(4, 1)];

test('loads, lost time and delays are those that a person works out by hand', () => {
  const inOrder = simulate(world, alternating, peers.fifo());
  expect(inOrder).toMatchObject({ loads: 4, lostMs: 4_000, busyMs: 2_000, endMs: 6_000 });
  expect(delaysOf(inOrder)).toEqual([1_000, 2_500, 4_000, 5_500]);
  expect(lostShare(inOrder)).toBeCloseTo(4 / 6);
  const grouped = simulate(world, alternating, ours());
  expect(grouped).toMatchObject({ loads: 2, endMs: 4_000 });
  expect(grouped.done.map((done) => done.step.place)).toEqual([1, 3, 2, 4]);
  expect(grouped.endMs).toBe(makespanMs(alternating, 1_000));
});

test('steps that share the compute of a device slow each other down', () => {
  const shared = { models, hosts: [{ host: 'local', parallel: 2, modelsMax: 1, bytes: null, compute: 1 }] };
  const { done } = simulate(shared, [step(1, 0), step(2, 0)], ours());
  expect(done.map(({ startedMs, endedMs }) => [startedMs, endedMs])).toEqual([
    [1_000, 2_000],
    [1_000, 2_000],
  ]);
});

test('the next step of a plan enters when the one before has ended, and its model stays for it [TPL-25]', () => {
  const plan: SimStep = { ...step(1, 0), then: { ...step(4, 0), arrivalMs: 30 } };
  const { done, loads } = simulate(world, [plan, step(2, 1), step(3, 0, 10_000)], ours());
  expect(done.map((each) => each.step.place)).toEqual([1, 4, 2, 3]);
  expect(loads).toBe(3);
});

test('a line of constant length is filled up as its steps start', () => {
  let most = 0;
  const watch = ({ line }: { line: { waiting: number } }) => void (most = Math.max(most, line.waiting));
  const { done } = simulate(world, stepsOf(poissonArrivals(50, 1, 500, 1), { seed: 1, models }), ours(), { window: 7, watch });
  expect([done.length, most]).toEqual([50, 7]);
});

test('the same seed gives the same run, another one another', () => {
  const outcome = (seed: number) => simulate(world, stepsOf(burstArrivals(200, 0.8, 500, seed), { seed, models }), ours());
  expect(outcome(1)).toEqual(outcome(1));
  expect(outcome(1).endMs).not.toBe(outcome(2).endMs);
});

test('a scheduler that gives a slot twice, or serves what is not loaded, does not get through', () => {
  const twice = productScheduler((snapshot) => {
    const decision = priorityAffinity()({ ...snapshot, slots: snapshot.slots.map((set) => ({ ...set, taken: [] })) });
    return { ...decision, orders: snapshot.residency.length > 0 ? [] : decision.orders };
  });
  expect(() => simulate(world, [step(1, 0), step(2, 0, 1_200)], twice)).toThrow(/given twice/u);
  expect(() =>
    simulate(world, [step(1, 0)], (view) => ({ grants: [...view.line.oldest()].map((waiting) => ({ waiting, host: 'local' })), orders: [] })),
  ).toThrow(/does not serve/u);
  expect(() => simulate(world, [step(1, 0)], () => ({ grants: [], orders: [] }))).toThrow(/wait for good/u);
});

test('the limits are what they are called', () => {
  expect(beladyLoads(['a', 'b', 'c', 'a', 'b', 'c'], 1)).toBe(6);
  expect(beladyLoads(['a', 'b', 'c', 'a', 'b', 'c'], 2)).toBe(4);
  expect(beladyLoads(['a', 'b', 'c', 'a', 'b', 'c'], 3)).toBe(3);
  const mixed = [step(1, 0, 0, 900), step(2, 0, 100, 500), step(3, 0, 200, 100)];
  expect(fifoWaits(mixed)).toEqual([0, 800, 1_200]);
  expect(shortestFirstWaits(mixed)).toEqual([0, 700, 900]);
  expect(overtaken([2, 3, 1])).toEqual([0, 0, 2]);
});
