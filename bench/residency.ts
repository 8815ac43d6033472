import { priorityAffinity } from '../scheduling/priority-affinity.js';
import { quantumMs } from '../scheduling/quantum.js';
import type { Figure, Plot, Section } from './report.js';
import { type Arrivals, burstArrivals, modelsOf, poissonArrivals, popularity, stepsOf, traceArrivals } from './simulator/arrivals.js';
import { delaysOf, lostShare, waitsOf } from './simulator/figures.js';
import { beladyLoads, distinctModels, fifoWaits, makespanMs, shortestFirstWaits } from './simulator/limits.js';
import type { SimStep } from './simulator/line.js';
import { productScheduler } from './simulator/ours.js';
import { peers } from './simulator/peers.js';
import { svgOf } from './simulator/plot.js';
import { type Outcome, type Scheduler, simulate } from './simulator/simulate.js';

const serviceMs = 28_000;
const rhos = [0.5, 0.8, 0.95] as const;
const loads = [1, 5, 22] as const;
const holds = [1, 2, 3, 5] as const;
const modelCount = 30;
/** The policy was shaped on another one. */
const seed = 7;
/** Most requests are of level 5, some of those beside it; from level 1. */
const mixedLevels = [0, 0, 1, 1, 4, 1, 1, 1];

const schedulers = {
  ours: () => productScheduler(priorityAffinity()),
  fifo: peers.fifo,
  ollama: peers.ollama,
  collation: peers.collation,
  longest: peers.longest,
  gated: peers.gated,
  index: peers.index,
} as const satisfies Record<string, () => Scheduler>;
type Name = keyof typeof schedulers;
const names = Object.keys(schedulers) as Name[];

interface Cell {
  readonly rho: number;
  readonly loadS: number;
  readonly hold: number;
  readonly arrivals: string;
  readonly steps: readonly SimStep[];
  readonly outcomes: Readonly<Record<Name, Outcome>>;
}

/** What models cost and who waits, in a simulator that runs the product's policy and those of others over the same arrivals. */
export async function benchResidency(scale: number): Promise<Section> {
  const count = Math.max(200, Math.round(2_000 * scale));
  const grid: Cell[] = [];
  for (const rho of rhos)
    for (const loadS of loads) for (const hold of holds) grid.push(cellOf(traceArrivals('conv', count, rho, serviceMs), rho, loadS, hold));
  const others = [
    traceArrivals('code', count, 0.8, serviceMs),
    poissonArrivals(count, 0.8, serviceMs, seed),
    burstArrivals(count, 0.8, serviceMs, seed),
  ].flatMap((arrivals) => [1, 3].map((hold) => cellOf(arrivals, 0.8, 5, hold)));
  const mixed = [5, 22].flatMap((loadS) => [1, 3].map((hold) => mixedLoad(count, loadS, hold)));
  return await Promise.resolve({
    title: 'Residency, simulated',
    method:
      `The simulator runs the product's own policy, and those of others, over the same arrivals: ${count} requests for ${modelCount} models (the first has ${share(popularity(modelCount)[0] ?? 0, popularity(modelCount))} of them) on one host, ` +
      `mean service e = ${serviceMs / 1_000} s, a load takes S, the host holds k models, which share its compute equally. ` +
      `Lost: time in which the host ran nothing since models were exchanged, of that and the time in which it ran something. Wait: from arrival to end, less the service. ` +
      `Each cell shows lost / p99 wait / loads for each request. The limit is first come, first served where loading takes no time (S = 0); the ratio is our p99 wait to it. ` +
      'The seed is another than the one on which the policy was shaped.',
    peer: 'FIFO+LRU; collation (llama-swap)',
    figures: [...grid.map(figureOf), ...others.map(figureOf), ...mixed],
    notes: notesOf(grid),
    plots: plotsOf(grid),
  });
}

function cellOf(arrivals: Arrivals, rho: number, loadS: number, hold: number): Cell {
  const models = modelsOf(modelCount, loadS * 1_000);
  const steps = stepsOf(arrivals, { seed, models });
  const world = { models, hosts: [{ host: 'local', parallel: 1, modelsMax: hold, bytes: null, compute: 1 }] };
  const outcomes = Object.fromEntries(names.map((name) => [name, simulate(world, steps, schedulers[name]())])) as Record<Name, Outcome>;
  return { rho, loadS, hold, arrivals: arrivals.name, steps, outcomes };
}

function figureOf(cell: Cell): Figure {
  const { ours, fifo, collation } = cell.outcomes;
  const limitMs = waitsOf(fifoWaits(cell.steps)).p99Ms;
  const barLost = lostBar(cell);
  const { lost, p99Ms } = measuresOf(ours);
  return {
    name: `${cell.arrivals}, rho ${cell.rho}, S ${cell.loadS} s (S/e ${(cell.loadS / (serviceMs / 1_000)).toFixed(2)}), k ${cell.hold}`,
    ours: textOf(ours),
    peer: `${textOf(fifo)}; ${textOf(collation)}`,
    ratio: (p99Ms / limitMs).toFixed(2),
    bar: `lost at most ${percent(barLost)}, p99 at most 1.35 x ${seconds(limitMs)} [S1]`,
    met: lost <= barLost && p99Ms <= 1.35 * limitMs,
  };
}

/** S/(S+Q) and two points, with the quantum that our load time gets. */
function lostBar({ loadS }: Cell): number {
  const loadMs = loadS * 1_000;
  return loadMs / (loadMs + quantumMs(loadMs, 5, 5)) + 0.02;
}

function measuresOf(outcome: Outcome) {
  return { lost: lostShare(outcome), ...waitsOf(delaysOf(outcome)) };
}

function textOf(outcome: Outcome): string {
  const { lost, p99Ms } = measuresOf(outcome);
  return `${percent(lost)} / ${seconds(p99Ms)} / ${(outcome.loads / outcome.done.length).toFixed(2)}`;
}

function notesOf(grid: readonly Cell[]): string[] {
  const limitOf = (cell: Cell) => waitsOf(fifoWaits(cell.steps));
  const table = names.map((name) => {
    const of = grid.map((cell) => ({
      cell,
      limit: limitOf(cell),
      ...measuresOf(cell.outcomes[name]),
      best: Math.min(...names.map((other) => measuresOf(cell.outcomes[other]).p99Ms)),
    }));
    const met = (is: (each: (typeof of)[number]) => boolean) => of.filter(is).length;
    return (
      `${titles[name]}: lost within its bar in ${met((each) => each.lost <= lostBar(each.cell))} of ${grid.length} cells, p99 within its bar in ${met((each) => each.p99Ms <= 1.35 * each.limit.p99Ms)}; ` +
      `over all cells, as geometric means against FIFO with S = 0: mean wait ${geometric(of.map((each) => each.meanMs / each.limit.meanMs))}, p95 ${geometric(of.map((each) => each.p95Ms / each.limit.p95Ms))}, ` +
      `p99 ${geometric(of.map((each) => each.p99Ms / each.limit.p99Ms))}, longest ${geometric(of.map((each) => each.maxMs / each.limit.maxMs))}; the lowest p99 of all in ${met((each) => each.p99Ms <= each.best * 1.001)}.`
    );
  });
  const one = grid.find(({ rho, loadS, hold }) => rho === 0.8 && loadS === 5 && hold === 3);
  const bounds = one
    ? [
        `Limits at rho 0.8, S 5 s: in the order of arrival nobody needs fewer loads than ${(
          beladyLoads(
            one.steps.map(({ key }) => key),
            1,
          ) / one.steps.length
        ).toFixed(2)}, ${(
          beladyLoads(
            one.steps.map(({ key }) => key),
            3,
          ) / one.steps.length
        ).toFixed(2)}, ` +
          `${(
            beladyLoads(
              one.steps.map(({ key }) => key),
              5,
            ) / one.steps.length
          ).toFixed(2)} for each request (Belady, k 1, 3, 5), with any order ${distinctModels(one.steps)} in all (distinct models); ` +
          `with S = 0 the mean wait is ${seconds(waitsOf(fifoWaits(one.steps)).meanMs)} by arrival and ${seconds(waitsOf(shortestFirstWaits(one.steps)).meanMs)} shortest first, for which the durations would have to be known; ` +
          `all of it at once takes at least ${seconds(makespanMs(one.steps, 5_000))} on one slot.`,
      ]
    : [];
  return [
    ...table,
    ...bounds,
    'With k 5 each model gets a fifth of the compute while all are busy, however many wait for it; the first model needs more, and only strict order, which lets the others stand, gives it that. Ours does not know yet how models share a device.',
    'Where the host is asked for half of what it can do, few wait, a load serves only those few, and with S not small nobody keeps to S/(S+Q): the host would stand idle otherwise. With S near e and one model at a time nobody reaches 1.35 times a machine that loads in no time.',
  ];
}

const titles: Readonly<Record<Name, string>> = {
  ours: 'Ours',
  fifo: 'FIFO+LRU',
  ollama: 'Ollama',
  collation: 'Collation (llama-swap), which is to exhaust a model and go on with the oldest',
  longest: 'Exhaust, then the longest queue',
  gated: 'Gated',
  index: 'Index n/(S + work)',
};

/** Two kinds of requests in one line, with levels, on a host that is asked for nearly all it can do. */
function mixedLoad(count: number, loadS: number, hold: number): Figure {
  const models = modelsOf(modelCount, loadS * 1_000);
  const half = [traceArrivals('conv', count / 2, 0.475, serviceMs), traceArrivals('code', count / 2, 0.475, serviceMs)];
  const list = half.flatMap((each) => [...each.list]).sort((a, b) => a.atMs - b.atMs);
  const steps = stepsOf({ name: 'mixed', list }, { seed, models, levels: mixedLevels });
  const world = { models, hosts: [{ host: 'local', parallel: 1, modelsMax: hold, bytes: null, compute: 1 }] };
  const [ours, fifo] = [simulate(world, steps, schedulers.ours()), simulate(world, steps, schedulers.fifo())];
  const waits = (outcome: Outcome) => [3, 5, 8].map((level) => seconds(waitsOf(delaysOf(outcome, level)).meanMs)).join(', ');
  const ratio = ours.loads / fifo.loads;
  return {
    name: `mixed load (conv and code, levels 3 to 8), rho 0.95, S ${loadS} s (S/e ${(loadS / (serviceMs / 1_000)).toFixed(2)}), k ${hold}: loads; mean waits of levels 3, 5, 8`,
    ours: `${ours.loads}; ${waits(ours)}`,
    peer: `${fifo.loads}; ${waits(fifo)}`,
    ratio: ratio.toFixed(2),
    bar: 'loads at most 0.50 x FIFO [SCHED-05]',
    met: ratio <= 0.5,
  };
}

function plotsOf(grid: readonly Cell[]): Plot[] {
  const shown: readonly Name[] = ['ours', 'fifo', 'collation', 'gated', 'longest', 'index'];
  const line = (hold: number, of: (cell: Cell) => number) =>
    grid.filter((cell) => cell.hold === hold && cell.loadS === 5).map((cell): [number, number] => [cell.rho, of(cell)]);
  const ratio = (name: Name) => (cell: Cell) => Math.min(30, measuresOf(cell.outcomes[name]).p99Ms / waitsOf(fifoWaits(cell.steps)).p99Ms);
  return [1, 3].flatMap((hold) => [
    {
      file: `residency-lost-k${hold}.svg`,
      alt: `Share of time lost to loading over the load, S = 5 s, ${hold} models held`,
      svg: svgOf({
        title: `Time lost to loading, S 5 s, e 28 s, k ${hold}`,
        x: { name: 'load asked of the host (rho)', ticks: rhos },
        y: { name: 'lost, %', ticks: [0, 5, 10, 15] },
        series: shown.map((name) => ({ name, ours: name === 'ours', points: line(hold, (cell) => Math.min(15, 100 * lostShare(cell.outcomes[name]))) })),
      }),
    },
    {
      file: `residency-wait-k${hold}.svg`,
      alt: `p99 wait over the load as a multiple of FIFO without loads, S = 5 s, ${hold} models held`,
      svg: svgOf({
        title: `p99 wait as a multiple of FIFO with S = 0, S 5 s, k ${hold}`,
        x: { name: 'load asked of the host (rho)', ticks: rhos },
        y: { name: 'multiple', ticks: [1, 2, 5, 10, 30], log: true },
        series: shown.map((name) => ({ name, ours: name === 'ours', points: line(hold, (cell) => Math.max(1, ratio(name)(cell))) })),
      }),
    },
  ]);
}

function share(part: number, weights: readonly number[]): string {
  return percent(part / weights.reduce((sum, weight) => sum + weight, 0));
}

function percent(value: number): string {
  return `${(100 * value).toFixed(1)} %`;
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1_000)} s`;
}

function geometric(ratios: readonly number[]): string {
  return Math.exp(ratios.reduce((sum, ratio) => sum + Math.log(ratio), 0) / ratios.length).toFixed(2);
}
