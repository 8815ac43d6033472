import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { needOfKey, type ResidencyKey } from '../contract/queues.js';
import { durationOf, type DurationStats, learnDuration, type StepKind } from '../scheduling/durations.js';
import { forecastLine } from '../scheduling/forecast.js';
import type { LineState } from '../scheduling/line-state.js';
import type { HostState, KeyCost, Snapshot } from '../scheduling/policy.js';
import { priorityAffinity } from '../scheduling/priority-affinity.js';
import { intervalOf, type Spread } from '../scheduling/spread.js';
import { judge, newStretch, stretchId, type StretchState } from '../scheduling/stretches.js';
import { defaultMaxWaitsMs } from '../scheduling/waiting-order.js';
import type { Figure, Section } from './report.js';
import { inUnits, median } from './statistics.js';

const tracePath = path.join(import.meta.dirname, '..', '..', 'shared', 'data', 'azure-llm-2023', 'conv.csv');
const models = 6;
const slots = 2;
/** Share of the arrivals from which the forecast only learns. */
const warmUp = 1 / 3;

interface Job {
  readonly atMs: number;
  readonly key: ResidencyKey;
  readonly level: number;
  readonly durationMs: number;
}

/** How far predictions of the end of a task were off, made when it arrived. */
interface Outcome {
  readonly kept: boolean;
  readonly errorMs: number;
  readonly lastErrorMs: number;
  readonly meanErrorMs: number;
}

/** How well the forecast knows when a task ends, on arrivals that it has not learned from yet [PRED-12]. */
export async function benchEta(scale: number): Promise<Section> {
  const count = Math.round(3_000 * scale);
  const figures: Figure[] = [];
  const notes: string[] = [];
  for (const [name, jobs] of [
    ['generated', generated(count)],
    ['Azure 2023, conversations', recorded(count)],
  ] as const) {
    if (jobs === null) {
      notes.push(`${name}: left out, since ${tracePath} is not there.`);
      continue;
    }
    const outcomes = follow(jobs).slice(Math.round(count * warmUp));
    const cover = outcomes.filter(({ kept }) => kept).length / outcomes.length;
    const mean = (of: (outcome: Outcome) => number) => outcomes.reduce((sum, outcome) => sum + of(outcome), 0) / outcomes.length;
    const [ours, last, average] = [mean(({ errorMs }) => errorMs), mean(({ lastErrorMs }) => lastErrorMs), mean(({ meanErrorMs }) => meanErrorMs)];
    figures.push(
      {
        name: `${name}: ends inside the 80 % interval`,
        ours: `${(100 * cover).toFixed(1)} %`,
        peer: '',
        ratio: '',
        bar: '75 to 85 %',
        met: cover >= 0.75 && cover <= 0.85,
      },
      errorFigure(`${name}: mean error of the end`, ours, last, 'the last run'),
      errorFigure(`${name}: mean error of the end`, ours, average, 'the mean'),
    );
    notes.push(
      `${name}: ${outcomes.length} predictions after ${jobs.length - outcomes.length} to learn from; median error ${inUnits(median(outcomes.map(({ errorMs }) => errorMs)))}.`,
    );
  }
  return {
    title: 'Expected ends',
    method: `${count} arrivals on ${models} models, one of them loaded at a time, ${slots} slots; the policy of the product decides, and each arrival is predicted by the forecast of that moment. The baselines add up the durations of all that is before a task in the line, each as its model's last one or as its mean so far.`,
    peer: 'baseline',
    figures,
    notes,
  };
}

function errorFigure(name: string, ours: number, other: number, which: string): Figure {
  return { name: `${name}, against ${which}`, ours: inUnits(ours), peer: inUnits(other), ratio: (ours / other).toFixed(2), bar: 'below it', met: ours < other };
}

const keyOf = (model: number): ResidencyKey => `model-${model}:latest~ctx4096`;
const loadMs = (model: number) => 1_500 + 900 * model;
const host: HostState = { host: 'local', hostEpoch: 1, parallel: slots, modelsMax: 1, roomBytes: null, budgetBytes: null, paused: false };
const costs: readonly KeyCost[] = Array.from({ length: models }, (_, model) => ({ host: 'local', key: keyOf(model), loadMs: loadMs(model), bytes: null }));

/** Repeatable numbers from 0 to 1. */
function uniforms(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}

/** A model by its popularity: the first one is asked for most. */
function drawModel(uniform: () => number): number {
  const weights = Array.from({ length: models }, (_, model) => 1 / (model + 1));
  let left = uniform() * weights.reduce((sum, weight) => sum + weight, 0);
  const found = weights.findIndex((weight) => (left -= weight) < 0);
  return found < 0 ? models - 1 : found;
}

function generated(count: number): Job[] {
  const uniform = uniforms(5);
  const normal = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  let atMs = 0;
  return Array.from({ length: count }, () => {
    atMs += -Math.log(uniform()) * 7_500;
    const model = drawModel(uniform);
    return {
      atMs,
      key: keyOf(model),
      level: uniform() < 0.1 ? 8 : uniform() < 0.3 ? 3 : 5,
      durationMs: Math.exp(Math.log(5_000 + 1_500 * model) + 0.5 * normal()),
    };
  });
}

/** The recorded arrivals, slowed down so that two slots are enough; the tokens say how long each takes: 2,000 a second are read, 50 are written. */
function recorded(count: number): Job[] | null {
  if (!existsSync(tracePath)) return null;
  const uniform = uniforms(9);
  const rows = readFileSync(tracePath, 'utf8')
    .trim()
    .split('\n')
    .slice(1, count + 1)
    .map((line) => line.split(','));
  const firstMs = Date.parse(`${rows[0]?.[0]?.slice(0, 23)}Z`);
  return rows.map(([time = '', prompt, output]) => ({
    atMs: (Date.parse(`${time.slice(0, 23)}Z`) - firstMs) * 18,
    key: keyOf(drawModel(uniform)),
    level: 5,
    durationMs: 100 + Number(prompt) / 2 + Number(output) * 20,
  }));
}

interface Live extends Job {
  readonly id: number;
  readonly kind: StepKind;
  startedMs: number;
  endsMs: number;
  predicted: Spread;
  stretch: StretchState;
  lastMs: number;
  meanMs: number;
}

/** Lets the jobs arrive and run, and compares what was said of each with what became of it. */
function follow(jobs: readonly Job[]): Outcome[] {
  const policy = priorityAffinity();
  const known = new Map<string, DurationStats>();
  const stretches = new Map<string, StretchState>();
  const history = new Map<ResidencyKey, { last: number; sum: number; count: number }>();
  const outcomes: Outcome[] = [];
  const waiting: Live[] = [];
  const running: Live[] = [];
  let resident = null as { key: ResidencyKey; servedMs: number; sinceMs: number } | null;
  let order = null as { key: ResidencyKey; unload: readonly ResidencyKey[]; doneMs: number } | null;
  let nowMs = 0;
  let next = 0;

  const servedMs = () => (resident === null ? 0 : resident.servedMs + running.reduce((sum, each) => sum + nowMs - each.startedMs, 0) / slots);
  const rows = (): Snapshot['residency'] =>
    resident === null
      ? []
      : [
          {
            host: 'local',
            hostEpoch: 1,
            key: resident.key,
            model: modelOf(resident.key),
            state: order?.unload.includes(resident.key) ? 'draining' : 'serving',
            sinceMs: nowMs - resident.sinceMs,
            servedMs: servedMs(),
          },
        ];
  const orders = (): Snapshot['openOrders'] =>
    order === null ? [] : [{ id: 'o', host: 'local', hostEpoch: 1, unload: order.unload, load: { key: order.key, model: modelOf(order.key) } }];

  function decide(): void {
    for (;;) {
      const decision = policy({
        heads: waiting.map((each) => ({
          row: String(each.id),
          taskId: String(each.id),
          pool: 'model',
          key: each.key,
          level: each.level,
          exact: each.level * 10,
          place: each.id,
          waitedMs: nowMs - each.atMs,
          continues: false,
        })),
        slots:
          resident === null
            ? []
            : [{ pool: 'model', host: 'local', hostEpoch: 1, key: resident.key, capacity: slots, taken: running.map((_, index) => index + 1) }],
        hosts: [host],
        residency: rows(),
        openOrders: orders(),
        continuations: [],
        backingOff: [],
        costs,
        backlog: [],
        soon: [],
      });
      for (const grant of decision.grants) {
        const [each] = waiting.splice(
          waiting.findIndex(({ id }) => String(id) === grant.row),
          1,
        );
        if (each) running.push(Object.assign(each, { startedMs: nowMs, endsMs: nowMs + each.durationMs }));
      }
      const [ordered] = decision.orders;
      if (ordered?.load) order = { key: ordered.load.key, unload: ordered.unload, doneMs: Infinity };
      beginLoad();
      if (decision.grants.length === 0 && ordered === undefined) return;
    }
  }
  function beginLoad(): void {
    if (order === null || order.doneMs < Infinity || running.length > 0) return;
    resident = null;
    order = { ...order, doneMs: nowMs + (costs.find(({ key }) => key === order?.key)?.loadMs ?? 0) };
  }
  const duration = (kind: StepKind) => durationOf(kind, (group) => known.get(group));
  const stepOf = (each: Live) => ({ step: 's', pool: 'model' as const, key: each.key, duration: duration(each.kind) });

  function predict(job: Live): void {
    const state: LineState = {
      tasks: [...running, ...waiting].map((each) => ({
        id: String(each.id),
        level: each.level,
        exact: each.level * 10,
        place: each.id,
        after: [],
        rights: [],
        steps: [
          {
            ...stepOf(each),
            now:
              each.startedMs >= 0
                ? { state: 'running', host: 'local', ranMs: nowMs - each.startedMs }
                : { state: 'waiting', waitedMs: nowMs - each.atMs, dueInMs: 0, continues: false, heldBy: null },
          },
        ],
      })),
      generalSlots: 0,
      hosts: [host],
      residency: rows(),
      openOrders: orders().map((each) => ({
        ...each,
        forMs: order === null || order.doneMs === Infinity ? 0 : (costs.find(({ key }) => key === order?.key)?.loadMs ?? 0) - (order.doneMs - nowMs),
      })),
      costs,
      backingOff: [],
      pools: null,
      paused: false,
    };
    const { predictions } = forecastLine(state, { maxWaitsMs: defaultMaxWaitsMs, handoverMs: 0 });
    const found = predictions.find(({ taskId }) => taskId === String(job.id));
    if (found === undefined) throw new Error('a task without a prediction');
    job.predicted = found.finish;
    job.stretch = stretches.get(stretchId('finish', job.level, found.finish.meanMs)) ?? newStretch;
    const before = [...running, ...waiting.filter((each) => each !== job && (each.level > job.level || (each.level === job.level && each.id < job.id)))];
    const by = (of: (known: { last: number; sum: number; count: number }) => number) => {
      const time = (key: ResidencyKey) => of(history.get(key) ?? { last: 8_000, sum: 8_000, count: 1 });
      return before.reduce((sum, each) => sum + Math.max(0, time(each.key) - (each.startedMs >= 0 ? nowMs - each.startedMs : 0)), 0) / slots + time(job.key);
    };
    job.lastMs = by(({ last }) => last);
    job.meanMs = by(({ sum, count }) => sum / count);
  }

  function end(each: Live): void {
    running.splice(running.indexOf(each), 1);
    if (resident !== null) resident.servedMs += (nowMs - each.startedMs) / slots;
    const actualMs = nowMs - each.atMs;
    const id = stretchId('finish', each.level, each.predicted.meanMs);
    const stretch = stretches.get(id) ?? newStretch;
    const { middleMs, lowMs, highMs } = intervalOf(each.predicted, each.stretch);
    outcomes.push({
      kept: actualMs >= lowMs && actualMs <= highMs,
      errorMs: Math.abs(actualMs - middleMs),
      lastErrorMs: Math.abs(actualMs - each.lastMs),
      meanErrorMs: Math.abs(actualMs - each.meanMs),
    });
    stretches.set(id, judge(stretch, each.predicted, actualMs));
    for (const [group, stats] of learnDuration(each.kind, each.durationMs, (name) => known.get(name))) known.set(group, stats);
    const seen = history.get(each.key) ?? { last: 0, sum: 0, count: 0 };
    history.set(each.key, { last: each.durationMs, sum: seen.sum + each.durationMs, count: seen.count + 1 });
  }

  while (outcomes.length < jobs.length) {
    const ending = running.reduce<Live | null>((first, each) => (first === null || each.endsMs < first.endsMs ? each : first), null);
    const arrivesMs = jobs[next]?.atMs ?? Infinity;
    nowMs = Math.min(arrivesMs, ending?.endsMs ?? Infinity, order?.doneMs ?? Infinity);
    if (ending?.endsMs === nowMs) end(ending);
    else if (order?.doneMs === nowMs) {
      resident = { key: order.key, servedMs: 0, sinceMs: nowMs };
      order = null;
    } else {
      const job = jobs[next] as Job;
      const kind = { template: 'bench', step: 's', type: 'ollama_generate', model: job.key };
      const live: Live = {
        ...job,
        id: next,
        kind,
        startedMs: -1,
        endsMs: Infinity,
        predicted: { meanMs: 0, variance: 0 },
        stretch: newStretch,
        lastMs: 0,
        meanMs: 0,
      };
      waiting.push(live);
      predict(live);
      next += 1;
    }
    beginLoad();
    decide();
  }
  return outcomes;
}

function modelOf(key: ResidencyKey) {
  const model = needOfKey(key);
  if (!model) throw new Error(`this is no residency key: ${key}`);
  return model;
}
