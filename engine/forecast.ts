import { setImmediate } from 'node:timers/promises';
import type { Logger } from 'pino';
import { needOfKey } from '../contract/queues.js';
import type { Sql, TransactionSql } from '../db/connect.js';
import { type Learned, learnFinished, readLearned } from '../db/durations.js';
import {
  type ForecastInput,
  type ForecastRow,
  type PlanOutline,
  promise,
  readDoneSteps,
  readForecast,
  readForecastInput,
  readPlanOutlines,
  whileForecasting,
  writeForecast,
} from '../db/forecasts.js';
import { durationOf, learnDuration, type StepKind } from '../scheduling/durations.js';
import { forecastInSlices, noticeMs, type StretchOf } from '../scheduling/forecast.js';
import type { LineState, StepState, TaskState } from '../scheduling/line-state.js';
import type { Slices } from '../scheduling/slices.js';
import { unstretched } from '../scheduling/spread.js';
import { judge, newStretch, stretchId } from '../scheduling/stretches.js';
import { defaultMaxWaitsMs, type MaxWaits } from '../scheduling/waiting-order.js';

/** Time between two forecasts, in milliseconds. */
export const forecastEveryMs = 2_000;
/** While steps run, time alone makes a forecast stale. */
const agedMs = 10_000;
/** A forecast takes at most this share of the engine's time. */
const timeShare = 0.1;
/** Tasks in a slice of work. */
const sliceTasks = 250;
/** The engine does nothing else for this long, in milliseconds. */
const sliceMs = 5;
/** From the end of a step to the start of the next one in its slot, as measured. */
const handoverMs = 40;

export interface ForecasterDeps {
  readonly sql: Sql;
  /** those of the policy */
  readonly maxWaitsMs?: MaxWaits;
  /** the shortest time between two forecasts; default {@link forecastEveryMs} */
  readonly everyMs?: number;
  readonly log: Logger;
}

export interface Forecaster {
  /** One run of the loop. @returns when to look again */
  run(): Promise<{ readonly againInMs: number } | undefined>;
  /** Says that the line has changed. */
  changed(): void;
}

/**
 * The forecast loop: learns from what has ended, and when the line has changed predicts it anew, at most every two seconds and by one engine at a time. What
 * was predicted of a step when it was first seen is kept until it ends, and judged then.
 */
export function createForecaster({ sql, maxWaitsMs = defaultMaxWaitsMs, everyMs = forecastEveryMs, log }: ForecasterDeps): Forecaster {
  const outlines = new Map<string, PlanOutline>();
  const promised = new Set<string>();
  let learned: Learned | null = null;
  let stale = true;
  let madeAtMs = 0;
  let tookMs = 0;
  /** steps that the last forecast was about */
  let size = 0;

  async function learn(): Promise<void> {
    for (let round = 0; round < 20; round++) {
      const { more, count } = await learnFinished(sql, take);
      if (count > 0) learned = null;
      if (!more) return;
    }
  }

  async function forecast(tx: TransactionSql): Promise<void> {
    const startedMs = performance.now();
    const madeAt = new Date();
    const input = await readForecastInput(tx);
    const ids = new Set([...input.rows, ...input.between].map(({ id }) => id));
    for (const id of outlines.keys()) if (!ids.has(id)) outlines.delete(id);
    for (const outline of await readPlanOutlines(
      tx,
      [...ids].filter((id) => !outlines.has(id)),
    ))
      outlines.set(outline.id, outline);
    const severalSteps = [...ids].filter((id) => (outlines.get(id)?.steps.length ?? 0) > 1);
    const done = await readDoneSteps(tx, severalSteps);
    learned ??= await readLearned(tx);
    const known = learned;
    const durations = new Map<string, StepState['duration']>();
    const state = await inSlices(
      lineStateOf(input, outlines, done, (kind) => {
        const id = `${kind.template} ${kind.step} ${kind.type} ${kind.model}`;
        const duration = durations.get(id) ?? durationOf(kind, (group) => known.durations.get(group));
        durations.set(id, duration);
        return duration;
      }),
    );
    const { entries, predictions } = await inSlices(forecastInSlices(state, { maxWaitsMs, handoverMs, stretch: stretchesOf(known) }));
    size = entries.length;
    if (size > 0 || (await readForecast(tx))?.entries.length !== 0) await writeForecast(tx, madeAt, entries);
    const attempts = new Map(input.rows.map(({ id, attempt }) => [id, attempt]));
    const fresh = predictions.filter(({ taskId, step }) => !promised.has(`${taskId} ${step}`));
    await promise(
      tx,
      madeAt,
      fresh.map(({ taskId, step, start, finish }) => ({
        taskId,
        attempt: attempts.get(taskId) ?? 1,
        step,
        startMs: start.meanMs,
        startSdMs: Math.sqrt(start.variance),
        finishMs: finish.meanMs,
        finishSdMs: Math.sqrt(finish.variance),
      })),
    );
    promised.clear();
    for (const { taskId, step } of predictions) promised.add(`${taskId} ${step}`);
    tookMs = performance.now() - startedMs;
    if (tookMs > forecastEveryMs) log.warn({ steps: size, took_ms: Math.round(tookMs) }, 'a forecast of the line takes long; it is made less often');
  }

  return {
    changed() {
      stale = true;
    },
    async run() {
      const pauseMs = everyMs === 0 ? 0 : Math.max(everyMs, tookMs / timeShare);
      const ageMs = Date.now() - madeAtMs;
      if (ageMs < pauseMs) return { againInMs: pauseMs - ageMs };
      if (!stale && (size === 0 || ageMs < agedMs)) return undefined;
      await learn();
      stale = false;
      const made = await whileForecasting(sql, everyMs * 0.75, forecast).catch((error: unknown) => {
        stale = true;
        throw error;
      });
      if (made === 'busy') {
        stale = true;
        return { againInMs: forecastEveryMs };
      }
      madeAtMs = Date.now();
      return undefined;
    },
  };
}

/** Does slices of work for a moment, then lets everything else of the engine go on: a long line holds up no step. */
async function inSlices<T>(slices: Slices<T>): Promise<T> {
  for (;;) {
    const startedMs = performance.now();
    do {
      const { done, value } = slices.next();
      if (done === true) return value;
    } while (performance.now() - startedMs < sliceMs);
    await setImmediate();
  }
}

/** Takes steps that have ended into what is known of durations, and of how well predictions hold. */
function take(steps: Parameters<Parameters<typeof learnFinished>[1]>[0], known: Learned): void {
  for (const step of steps) {
    for (const [group, stats] of learnDuration(step, step.ms, (id) => known.durations.get(id))) known.durations.set(group, stats);
    const { promise: was } = step;
    if (was === null) continue;
    for (const [kind, meanMs, sdMs, actualMs] of [
      ['start', was.startMs, was.startSdMs, was.startedMs],
      ['finish', was.finishMs, was.finishSdMs, was.finishedMs],
    ] as const) {
      const id = stretchId(kind, step.level, meanMs);
      known.stretches.set(id, judge(known.stretches.get(id) ?? newStretch, { meanMs, variance: sdMs ** 2 + (kind === 'start' ? noticeMs ** 2 : 0) }, actualMs));
    }
  }
}

function stretchesOf({ stretches }: Learned): StretchOf {
  return (kind, level, aheadMs) => stretches.get(stretchId(kind, level, aheadMs)) ?? unstretched;
}

/**
 * The line as the forecast takes it, from what was read.
 * @param done steps that have ended, by task
 */
function* lineStateOf(
  input: ForecastInput,
  outlines: ReadonlyMap<string, PlanOutline>,
  done: ReadonlyMap<string, ReadonlySet<string>>,
  duration: (kind: StepKind) => StepState['duration'],
): Slices<LineState> {
  const rows = new Map<string, ForecastRow[]>();
  for (const row of input.rows) {
    const group = rows.get(row.id);
    if (group === undefined) rows.set(row.id, [row]);
    else group.push(row);
  }
  const parents = new Map<string, string[]>();
  const blocked = new Set<string>();
  for (const [child, parent, failed] of input.dependencies) {
    parents.set(child, [...(parents.get(child) ?? []), parent]);
    if (failed) blocked.add(child);
  }
  const owners = new Map(input.rights);
  const pausedModels = new Set(input.pausedModels);
  const tasks: TaskState[] = [];

  const addTask = (id: string, live: readonly ForecastRow[], task: Pick<TaskState, 'level' | 'exact' | 'place'>, held: boolean) => {
    const outline = outlines.get(id);
    const kindOf = (step: string, type: string, key: string | null): StepKind => ({
      template: outline?.template ?? '',
      step,
      type,
      model: key === null ? null : (needOfKey(key)?.name ?? key),
    });
    const typeOf = (step: string) => outline?.steps.find((each) => each.id === step)?.type ?? '';
    const steps = live.map((row): StepState => {
      const { step, pool, key } = row;
      const paused = input.paused || (key !== null && pausedModels.has(needOfKey(key)?.name ?? key));
      const heldBy = row.held ? 'held' : blocked.has(id) ? 'blocked' : paused ? 'paused' : row.lack === 'never' ? 'waiting_resource' : null;
      const lacks = row.lack === null ? null : row.lack === 'lock' ? 'waiting_lock' : 'waiting_resource';
      const now: StepState['now'] =
        row.state === 'waiting'
          ? { state: 'waiting', waitedMs: row.waitedMs, dueInMs: row.dueInMs, continues: row.continues, heldBy, lacks }
          : { state: 'running', host: row.host ?? 'general', ranMs: row.ranMs };
      return { step, pool, key, duration: duration(kindOf(step, typeOf(step), key)), now };
    });
    if (!held && outline !== undefined)
      steps.push(...laterSteps(outline, live, done.get(id) ?? new Set(), (step, type, key) => duration(kindOf(step, type, key))));
    const locks = new Set(live.flatMap((row) => row.locks));
    tasks.push({ id, ...task, steps, after: parents.get(id) ?? [], rights: [...locks].map((name) => ({ name, has: owners.get(name) === id })) });
  };

  for (const [id, live] of rows) {
    if (tasks.length % sliceTasks === sliceTasks - 1) yield;
    const [first] = live;
    if (first !== undefined)
      addTask(
        id,
        live,
        first,
        live.some((row) => row.held),
      );
  }
  for (const [index, { id, level, exact, held }] of input.between.entries()) addTask(id, [], { level, exact, place: input.rows.length + index }, held);
  const { generalSlots, hosts, residency, openOrders, costs, backingOff, paused } = input;
  return { tasks, generalSlots, hosts, residency, openOrders, costs, backingOff, paused };
}

/** Steps of a plan that have neither ended nor entered the line. One that was passed over, since a step behind it did, is skipped. */
function laterSteps(
  { steps }: PlanOutline,
  live: readonly ForecastRow[],
  done: ReadonlySet<string>,
  duration: (step: string, type: string, key: string | null) => StepState['duration'],
): StepState[] {
  const reached = new Set([...done, ...live.map((row) => row.step)]);
  const passed = new Set<string>();
  for (const step of [...steps].reverse()) if (reached.has(step.id) || passed.has(step.id)) for (const need of step.needs) passed.add(need);
  return steps
    .filter(({ id }) => !reached.has(id) && !passed.has(id))
    .map(({ id, type, key, needs }) => ({
      step: id,
      pool: key === null ? 'general' : 'model',
      key,
      duration: duration(id, type, key),
      now: { state: 'later', needs: needs.filter((need) => !done.has(need)) },
    }));
}
