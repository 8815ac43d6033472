import { priorityAffinity } from '../scheduling/priority-affinity.js';
import type { Figure, Section } from './report.js';
import { modelsOf, poissonArrivals, stepsOf } from './simulator/arrivals.js';
import { overtakings } from './simulator/figures.js';
import type { SimStep } from './simulator/line.js';
import { productScheduler } from './simulator/ours.js';
import { peers } from './simulator/peers.js';
import { svgOf } from './simulator/plot.js';
import { type Outcome, type Scheduler, simulate } from './simulator/simulate.js';
import { quantile } from './statistics.js';

const serviceMs = 1_000;
const modelCount = 86;
const windows = [1, 2, 5, 10, 20, 50, 100, 200, 500] as const;
/** S/e: where loads are so dear that the quantum hardly ever ends a turn, as in the problem of the reordering buffer, in which only loads cost, and where it does. */
const dear = 20;
const cheap = 1;

/** How many loads a line of constant length costs, and who is overtaken [S2, PERF-13]. */
export async function benchWindow(scale: number): Promise<Section> {
  const count = Math.max(1_000, Math.round(10_000 * scale));
  const steps = stepsOf(poissonArrivals(count, 1, serviceMs, 11), { seed: 12, models: modelsOf(modelCount, 1), stay: 0.1 });
  const ours = () => productScheduler(priorityAffinity());
  const curves = windows.map((window) => {
    const runWith = (scheduler: Scheduler, ratio = dear) => run(steps, scheduler, ratio, window, 1);
    return {
      window,
      ours: runWith(ours()),
      cheap: runWith(ours(), cheap),
      waste: runWith(peers.boundedWaste()),
      turns: runWith(peers.roundRobin()),
      collation: runWith(peers.collation()),
      longest: runWith(peers.longest()),
    };
  });
  const perStep = (outcome: Outcome) => outcome.loads / count;
  const passed = (outcome: Outcome) => quantile(overtakings(outcome), 0.99);
  const figures = curves.flatMap((curve) => {
    const slack = curve.window <= 50 ? 1.1 : curve.window <= 200 ? 1.25 : null;
    const judged = slack !== null && curve.window >= 5;
    const [loads, overtaking] = [perStep(curve.ours) / perStep(curve.waste), passed(curve.ours) / passed(curve.waste)];
    const others = [curve.waste, curve.turns, curve.collation, curve.longest];
    return [
      {
        name: `loads for each request, ${curve.window} waiting`,
        ours: perStep(curve.ours).toFixed(3),
        peer: others.map((each) => perStep(each).toFixed(3)).join('; '),
        ratio: loads.toFixed(2),
        bar: judged ? `at most ${slack} x Bounded Waste [S2]` : '',
        met: judged ? loads <= slack : null,
      },
      {
        name: `later requests that start before one, p99, ${curve.window} waiting`,
        ours: String(passed(curve.ours)),
        peer: others.map((each) => String(passed(each))).join('; '),
        ratio: curve.window === 1 ? '' : overtaking.toFixed(2),
        bar: judged ? 'at most 0.33 x Bounded Waste [S2]' : '',
        met: judged ? overtaking <= 1 / 3 : null,
      },
    ] satisfies Figure[];
  });
  figures.push(...[1, 3].flatMap((hold) => [0.1, 0.33, 0.45, 0.61, 1, 2, 5].map((ratio) => gainOf(steps, ratio, hold))));
  return await Promise.resolve({
    title: 'Lines of constant length, simulated',
    method:
      `${count} requests for ${modelCount} models, one host; a new request comes whenever one has started, so that a constant number waits. The first rows are the reordering of a buffer: one model at a time, ` +
      `S/e = ${dear}, where the quantum of 19 S hardly ever ends a model's turn (with S/e = ${cheap} it does: see the plot). The last rows are the share of time in which the host works, in ours and in the order of arrival, with 50 waiting.`,
    peer: 'Bounded Waste; round robin; collation; longest queue',
    figures,
    notes: [
      `With S/e = ${cheap} a model's turn ends after 19 steps, so that no window brings the loads below ${(1 / 19).toFixed(3)}: ${curves.map((curve) => `${perStep(curve.cheap).toFixed(3)} (${curve.window})`).join(', ')}; p99 of overtaking ${curves.map((curve) => passed(curve.cheap)).join(', ')}.`,
      'With one or two waiting there is next to nothing to choose, and no bar. Where few wait, whoever groups them at all is near to Bounded Waste in overtaking: the requests of one group pass the one that has just come.',
      'The 20 % [PERF-13] come from a trace in which exhausting a model with 50 waiting takes 0.12 loads for each request; here, where models are drawn one by one, it takes more, and at S/e = 0.33 nobody reaches 20 %.',
    ],
    plots: [
      {
        file: 'window-loads.svg',
        alt: 'Loads for each request over the number that wait',
        svg: svgOf({
          title: 'Loads for each request, one model at a time',
          x: { name: 'requests that wait', ticks: [1, 2, 5, 10, 20, 50, 100, 200, 500], log: true },
          y: { name: 'loads', ticks: [0.02, 0.05, 0.1, 0.2, 0.5, 1], log: true },
          series: [
            { name: `ours, S/e ${dear}`, ours: true, points: curves.map((curve) => [curve.window, perStep(curve.ours)] as const) },
            { name: `ours, S/e ${cheap}`, ours: true, points: curves.map((curve) => [curve.window, perStep(curve.cheap)] as const) },
            { name: 'Bounded Waste', points: curves.map((curve) => [curve.window, perStep(curve.waste)] as const) },
            { name: 'round robin', points: curves.map((curve) => [curve.window, perStep(curve.turns)] as const) },
            { name: 'longest queue', points: curves.map((curve) => [curve.window, perStep(curve.longest)] as const) },
          ],
        }),
      },
      {
        file: 'window-overtaking.svg',
        alt: 'p99 of how many later requests start before one, over the number that wait',
        svg: svgOf({
          title: 'Later requests that start before one, p99',
          x: { name: 'requests that wait', ticks: [1, 2, 5, 10, 20, 50, 100, 200, 500], log: true },
          y: { name: 'overtaken by', ticks: [1, 10, 100, 1000, 10000], log: true },
          series: [
            { name: `ours, S/e ${dear}`, ours: true, points: curves.map((curve) => [curve.window, Math.max(1, passed(curve.ours))] as const) },
            { name: `ours, S/e ${cheap}`, ours: true, points: curves.map((curve) => [curve.window, Math.max(1, passed(curve.cheap))] as const) },
            { name: 'Bounded Waste', points: curves.map((curve) => [curve.window, Math.max(1, passed(curve.waste))] as const) },
            { name: 'round robin', points: curves.map((curve) => [curve.window, Math.max(1, passed(curve.turns))] as const) },
            { name: 'longest queue', points: curves.map((curve) => [curve.window, Math.max(1, passed(curve.longest))] as const) },
          ],
        }),
      },
    ],
  });
}

function run(steps: readonly SimStep[], scheduler: Scheduler, ratio: number, window: number, hold: number): Outcome {
  const world = { models: modelsOf(modelCount, ratio * serviceMs), hosts: [{ host: 'local', parallel: 1, modelsMax: hold, bytes: null, compute: 1 }] };
  return simulate(world, steps, scheduler, { window });
}

/** How much more of its time the host works than in the order of arrival. */
function gainOf(steps: readonly SimStep[], ratio: number, hold: number): Figure {
  const outcomes = [productScheduler(priorityAffinity()), peers.fifo(), peers.collation()].map((scheduler) => run(steps, scheduler, ratio, 50, hold));
  const [ours = 0, fifo = 0, collation = 0] = outcomes.map(({ busyMs, endMs }) => busyMs / endMs);
  const [own, arrival] = outcomes.map((outcome) => outcome.loads / steps.length);
  const formula = (1 + (arrival ?? 0) * ratio) / (1 + (own ?? 0) * ratio) - 1;
  const gain = ours / fifo - 1;
  const asked = ratio >= (hold === 1 ? 0.33 : 0.61);
  return {
    name: `host at work, 50 waiting, S/e ${ratio}, k ${hold}`,
    ours: `${(100 * ours).toFixed(1)} % of the time`,
    peer: `FIFO+LRU ${(100 * fifo).toFixed(1)} %; collation ${(100 * collation).toFixed(1)} %`,
    ratio: `${(1 + gain).toFixed(2)} (by the formula ${(1 + formula).toFixed(2)})`,
    bar: asked ? 'at least 1.20 [PERF-13]' : '',
    met: asked ? gain >= 0.2 : null,
  };
}
