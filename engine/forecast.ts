import type { Logger } from 'pino';
import type { Meter } from '../contract/metrics.js';
import type { Sql, TransactionSql } from '../db/connect.js';
import { type Learned, learnFinished, readLearned } from '../db/durations.js';
import {
  type PlanOutline,
  promise,
  readDoneSteps,
  readForecast,
  readForecastInput,
  readPlanOutlines,
  whileForecasting,
  writeForecast,
} from '../db/forecasts.js';
import { handoverMs, lineStateOf, ofSeveralSteps, stretchesOf, tasksIn } from '../db/line-state.js';
import { inSlices } from '../in-slices.js';
import { learnDuration } from '../scheduling/durations.js';
import { forecastInSlices, noticeMs } from '../scheduling/forecast.js';
import { judge, newStretch, stretchId } from '../scheduling/stretches.js';
import { defaultMaxWaitsMs, type MaxWaits } from '../scheduling/waiting-order.js';

/** Time between two forecasts, in milliseconds. */
export const forecastEveryMs = 2_000;
/** While steps run, time alone makes a forecast stale. */
const agedMs = 10_000;
/** A forecast takes at most this share of the engine's time. */
const timeShare = 0.1;

export interface ForecasterDeps {
  readonly sql: Sql;
  /** those of the policy */
  readonly maxWaitsMs?: MaxWaits;
  /** the shortest time between two forecasts; default {@link forecastEveryMs} */
  readonly everyMs?: number;
  readonly meter?: Meter;
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
export function createForecaster({ sql, maxWaitsMs = defaultMaxWaitsMs, everyMs = forecastEveryMs, meter, log }: ForecasterDeps): Forecaster {
  const outlines = new Map<string, PlanOutline>();
  const promised = new Set<string>();
  let learned: Learned | null = null;
  let stale = true;
  /** steps have ended that could not be learned from yet */
  let unlearned = false;
  let madeAtMs = Number.NEGATIVE_INFINITY;
  let tookMs = 0;
  /** steps that the last forecast was about */
  let size = 0;

  /** @returns whether steps have ended that it has not learned from yet */
  async function learn(): Promise<boolean> {
    for (let round = 0; round < 20; round++) {
      const { more, unseen, count } = await learnFinished(sql, take);
      if (count > 0) learned = null;
      if (!more) return unseen;
    }
    return true;
  }

  async function forecast(tx: TransactionSql): Promise<void> {
    const startedMs = performance.now();
    // What is read and promised of steps that were not there before is paid once for each, so the next forecast does not wait longer for it.
    let coldMs = 0;
    const madeAt = new Date();
    const input = await readForecastInput(tx);
    const ids = tasksIn(input);
    const readMs = performance.now();
    for (const id of outlines.keys()) if (!ids.has(id)) outlines.delete(id);
    for (const outline of await readPlanOutlines(
      tx,
      [...ids].filter((id) => !outlines.has(id)),
    ))
      outlines.set(outline.id, outline);
    coldMs += performance.now() - readMs;
    const done = await readDoneSteps(tx, ofSeveralSteps(ids, outlines));
    learned ??= await readLearned(tx);
    const state = await inSlices(lineStateOf({ input, outlines, done, learned }));
    const { entries, predictions } = await inSlices(forecastInSlices(state, { maxWaitsMs, handoverMs, stretch: stretchesOf(learned) }));
    size = entries.length;
    if (size > 0 || (await readForecast(tx))?.entries.length !== 0) await writeForecast(tx, madeAt, entries);
    const attempts = new Map(input.rows.map(({ id, attempt }) => [id, attempt]));
    const promisedMs = performance.now();
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
    coldMs += performance.now() - promisedMs;
    promised.clear();
    for (const { taskId, step } of predictions) promised.add(`${taskId} ${step}`);
    tookMs = performance.now() - startedMs - coldMs;
    meter?.observe('prediction_latency_ms', performance.now() - startedMs);
    if (tookMs > forecastEveryMs) log.warn({ steps: size, took_ms: Math.round(tookMs) }, 'a forecast of the line takes long; it is made less often');
  }

  return {
    changed() {
      stale = true;
    },
    async run() {
      const pauseMs = everyMs === 0 ? 0 : Math.max(everyMs, tookMs / timeShare);
      const ageMs = performance.now() - madeAtMs;
      if (ageMs < pauseMs) return { againInMs: pauseMs - ageMs };
      const due = stale || (size > 0 && ageMs >= agedMs);
      if (!due && !unlearned) return undefined;
      stale = false; // what changes from here on is looked at again
      try {
        unlearned = await learn();
        if (due || learned === null) {
          if ((await whileForecasting(sql, everyMs * 0.75, forecast)) === 'busy') stale = true;
          else madeAtMs = performance.now();
        }
        return stale || unlearned ? { againInMs: forecastEveryMs } : undefined;
      } catch (error) {
        stale = true;
        throw error;
      }
    },
  };
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
