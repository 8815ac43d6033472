import { tracked } from './durations.js';
import { intervalOf, logNormalOf, type Spread, type Stretch, tenth, unstretched } from './spread.js';

/** Upper ends of the horizons, in milliseconds ahead; the last one has none. */
const horizonEndsMs = [10_000, 60_000, 600_000, 3_600_000];

export type StretchKind = 'start' | 'finish';

/** What arrives later can hold up a step for a multiple of what was to be expected. */
const stretchMax = 50;

/** How intervals of one horizon have done so far. */
export interface StretchState extends Stretch {
  /** predictions that were judged, and those of them whose interval held */
  readonly judged: number;
  readonly kept: number;
}

export const newStretch: StretchState = { ...unstretched, judged: 0, kept: 0 };

/**
 * Which predictions are judged together: those of starts or of ends, of tasks alike urgent, since what arrives later goes before the others, and so far ahead.
 * @returns `<kind>-<levels> <horizon>`
 */
export function stretchId(kind: StretchKind, level: number, aheadMs: number): string {
  return `${kind}-${level >= 8 ? 'high' : level >= 5 ? 'middle' : 'low'} ${horizonOf(aheadMs)}`;
}

/** Which horizon a predicted time belongs to, from 0. */
export function horizonOf(aheadMs: number): number {
  const found = horizonEndsMs.findIndex((end) => aheadMs < end);
  return found < 0 ? horizonEndsMs.length : found;
}

/**
 * Judges a prediction by what happened, and moves the bounds so that in the long run 10 of 100 outcomes lie below, 10 above, and
 * half of them on each side of the middle: what arrives later makes everything later, the less urgent the more.
 * @param actualMs what happened, in milliseconds after the prediction was made
 */
export function judge(state: StretchState, predicted: Spread, actualMs: number): StretchState {
  const { mu, variance } = logNormalOf(predicted);
  const { lowMs, highMs } = intervalOf(predicted, state);
  const deviation = Math.sqrt(Math.max(variance, 1e-6));
  const off = Math.log(Math.max(1, actualMs)) - mu - state.shift;
  const score = off / deviation;
  const rate = Math.max(0.02, 0.3 / Math.sqrt(1 + state.judged));
  return {
    low: tracked(state.low, -score > tenth * state.low, rate, stretchMax),
    high: tracked(state.high, score > tenth * state.high, rate, stretchMax),
    shift: state.shift + rate * Math.sign(off) * Math.min(0.3, deviation * Math.max(state.low, state.high)),
    judged: state.judged + 1,
    kept: state.kept + (actualMs >= lowMs && actualMs <= highMs ? 1 : 0),
  };
}
