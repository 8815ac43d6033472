import type { ForecastEntry, ForecastReason } from '../contract/forecast.js';
import { needOfKey, type ResidencyKey } from '../contract/queues.js';
import { simulateInSlices } from './simulate-line.js';
import type { Start } from './simulated-line.js';
import type { LineState, StepState, TaskState } from './line-state.js';
import type { HeldBack } from './policy.js';
import { type Interval, intervalOf, type Spread, type Stretch, unstretched } from './spread.js';
import { allAtOnce, type Slices } from './slices.js';
import type { StretchKind } from './stretches.js';
import type { MaxWaits } from './waiting-order.js';

/** By how much intervals are stretched, for a task of this level and a time that lies so far ahead. */
export type StretchOf = (kind: StretchKind, level: number, aheadMs: number) => Stretch;

export interface ForecastSettings {
  /** those of the policy */
  readonly maxWaitsMs: MaxWaits;
  /** from the end of a step to the start of the next one in its slot */
  readonly handoverMs: number;
  readonly stretch?: StretchOf;
}

/** What is predicted of one step: milliseconds from now. */
export interface Prediction {
  readonly taskId: string;
  readonly step: string;
  readonly start: Spread;
  readonly finish: Spread;
}

export interface Forecast {
  readonly entries: readonly ForecastEntry[];
  /** those steps that wait and whose start can be told, in the order of their starts */
  readonly predictions: readonly Prediction[];
}

/** Tasks in a slice of work. */
const sliceTasks = 250;

/** When a step can start is not noticed sooner, or known better, than within this; in milliseconds. */
export const noticeMs = 150;

/**
 * Predicts when each step of the line starts and ends, by letting the policy run forward over the line as it is: with the durations that are expected, and with
 * variances that add up along the order. What has not been submitted yet is not in it.
 */
export function forecastLine(state: LineState, settings: ForecastSettings): Forecast {
  return allAtOnce(forecastInSlices(state, settings));
}

/** As {@link forecastLine}. */
export function* forecastInSlices(state: LineState, settings: ForecastSettings): Slices<Forecast> {
  const { startOf, heldBack, isReserved } = yield* simulateInSlices(state, settings);
  const stretch = settings.stretch ?? (() => unstretched);
  const why = reasonsOf(state, heldBack);
  const running: ForecastEntry[] = [];
  const waiting: { readonly order: number; readonly entry: Writable<ForecastEntry>; readonly prediction: Prediction }[] = [];
  const never: ForecastEntry[] = [];
  for (const [taskIndex, task] of state.tasks.entries()) {
    if (taskIndex % sliceTasks === sliceTasks - 1) yield;
    const done = within(endOf(task.steps.map((_, index) => startOf(taskIndex, index))), 'finish', task.level, stretch);
    for (const [stepIndex, step] of task.steps.entries()) {
      if (step.now.state === 'later') continue;
      const found = startOf(taskIndex, stepIndex);
      const reason = step.now.state === 'running' ? null : why(task, step.key, step.now, isReserved(taskIndex, stepIndex));
      const start = within(
        found === undefined ? null : { meanMs: found.start.meanMs, variance: found.start.variance + noticeMs ** 2 },
        'start',
        task.level,
        stretch,
      );
      const finish = within(found?.finish ?? null, 'finish', task.level, stretch);
      const entry: Writable<ForecastEntry> = {
        task_id: task.id,
        step: step.step,
        pool: step.pool,
        key: step.key,
        host: found?.host ?? null,
        position: null,
        start_ms: whole(start.middleMs),
        start_low_ms: whole(start.lowMs),
        start_high_ms: whole(start.highMs),
        finish_ms: whole(finish.middleMs),
        finish_low_ms: whole(finish.lowMs),
        finish_high_ms: whole(finish.highMs),
        done_ms: whole(done.middleMs),
        done_low_ms: whole(done.lowMs),
        done_high_ms: whole(done.highMs),
        why: reason?.why ?? null,
        other: reason?.other ?? null,
        left_ms: reason?.leftMs == null ? null : Math.round(reason.leftMs),
      };
      if (step.now.state === 'running') {
        entry.start_ms = entry.start_low_ms = entry.start_high_ms = -Math.round(step.now.ranMs);
        running.push(entry);
      } else if (found === undefined) {
        never.push(entry);
      } else {
        waiting.push({ order: found.order, entry, prediction: { taskId: task.id, step: step.step, start: found.start, finish: found.finish } });
      }
    }
  }
  waiting.sort((a, b) => a.order - b.order);
  for (const [index, { entry }] of waiting.entries()) entry.position = index + 1;
  return { entries: [...running, ...waiting.map(({ entry }) => entry), ...never], predictions: waiting.map(({ prediction }) => prediction) };
}

type Writable<T> = { -readonly [Name in keyof T]: T[Name] };

/** When the last step of a task ends; null where that cannot be told. */
function endOf(starts: readonly (Start | undefined)[]): Spread | null {
  let end: Spread = { meanMs: 0, variance: 0 };
  for (const start of starts) {
    if (start === undefined) return null;
    if (start.finish.meanMs >= end.meanMs) end = start.finish;
  }
  return end;
}

const nothing: Interval = { middleMs: Number.NaN, lowMs: Number.NaN, highMs: Number.NaN };

function within(spread: Spread | null, kind: StretchKind, level: number, stretch: StretchOf): Interval {
  return spread === null ? nothing : intervalOf(spread, stretch(kind, level, spread.meanMs));
}

/** Whole milliseconds; null for what cannot be told. */
function whole(ms: number): number | null {
  return Number.isNaN(ms) ? null : Math.round(ms);
}

type Reason = { readonly why: ForecastReason; readonly other: ResidencyKey | null; readonly leftMs: number | null };

/** What the steps of each key wait for, by what the policy says now. */
function reasonsOf(state: LineState, heldBack: readonly HeldBack[]) {
  const serving = new Set(state.residency.filter((row) => row.state === 'serving').map((row) => row.key));
  const keys = new Map(heldBack.map((held) => [held.key, held]));
  const open = new Set(state.tasks.map(({ id }) => id));
  const taken = new Set(state.tasks.flatMap(({ rights }) => rights.filter(({ has }) => has).map(({ name }) => name)));
  const simple = (why: ForecastReason): Reason => ({ why, other: null, leftMs: null });
  return (task: TaskState, key: ResidencyKey | null, now: WaitingState, isKept: boolean): Reason => {
    if (now.heldBy !== null) return simple(now.heldBy);
    if (now.dueInMs === null || task.after.some((id) => open.has(id))) return simple('waiting_dependency');
    if (now.dueInMs > 0) return simple('backing_off');
    if (now.lacks != null) return simple(now.lacks);
    if (task.rights.some(({ name, has }) => !has && taken.has(name))) return simple('waiting_lock');
    if (isKept) return simple('reserved');
    if (key === null || serving.has(key)) return simple('waiting_slot');
    const held = keys.get(key);
    if (held !== undefined) return { why: held.why, other: held.other, leftMs: held.leftMs };
    return state.hosts.length === 0 || needOfKey(key) === undefined ? simple('no_host') : simple('waiting_model');
  };
}

type WaitingState = Extract<StepState['now'], { readonly state: 'waiting' }>;
