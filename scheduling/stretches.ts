import { tracked } from './durations.js';
import { intervalOf, logNormalOf, type Spread, type Stretch, tenth, unstretched } from './spread.js';

/** Upper ends of the horizons, in milliseconds ahead; the last one has none. */
const horizonEndsMs = [10_000, 60_000, 600_000, 3_600_000];

export type StretchKind = 'start' | 'finish';

/** How intervals of one horizon have done so far. */
export interface StretchState extends Stretch {
  /** predictions that were judged, and those of them whose interval held */
  readonly judged: number;
  readonly kept: number;
}

export const newStretch: StretchState = { ...unstretched, judged: 0, kept: 0 };

/** Which horizon a predicted time belongs to, from 0. */
export function horizonOf(aheadMs: number): number {
  const found = horizonEndsMs.findIndex((end) => aheadMs < end);
  return found < 0 ? horizonEndsMs.length : found;
}

/**
 * Judges a prediction by what happened, and moves the bounds so that in the long run 10 of 100 outcomes lie below and 10 above.
 * @param actualMs what happened, in milliseconds after the prediction was made
 */
export function judge(state: StretchState, predicted: Spread, actualMs: number): StretchState {
  const { mu, variance } = logNormalOf(predicted);
  const { lowMs, highMs } = intervalOf(predicted, state);
  const score = (Math.log(Math.max(1, actualMs)) - mu) / Math.sqrt(Math.max(variance, 1e-6));
  const rate = Math.max(0.02, 0.3 / Math.sqrt(1 + state.judged));
  return {
    low: tracked(state.low, -score > tenth * state.low, rate),
    high: tracked(state.high, score > tenth * state.high, rate),
    judged: state.judged + 1,
    kept: state.kept + (actualMs >= lowMs && actualMs <= highMs ? 1 : 0),
  };
}
