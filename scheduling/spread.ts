/** A time that is not known exactly: expected value and variance, in milliseconds and their square. */
export interface Spread {
  readonly meanMs: number;
  readonly variance: number;
}

/** A log-normal distribution: expected value and variance of the logarithm of milliseconds. */
export interface LogNormal {
  readonly mu: number;
  readonly variance: number;
}

/** Of the normal distribution: 10 % lie below -tenth, 10 % above it. */
export const tenth = 1.2815515655446004;

/** By how much an interval is to be wider than its distribution says, below and above its middle; 1: as it says. */
export interface Stretch {
  readonly low: number;
  readonly high: number;
  /** by how much the middle has to be moved, as a logarithm: 0.7 makes it twice as late */
  readonly shift: number;
}

export const unstretched: Stretch = { low: 1, high: 1, shift: 0 };

/** A middle that half of the outcomes lie below, and bounds that 80 of 100 lie between; milliseconds. */
export interface Interval {
  readonly middleMs: number;
  readonly lowMs: number;
  readonly highMs: number;
}

export function spreadOf({ mu, variance }: LogNormal): Spread {
  const meanMs = Math.exp(mu + variance / 2);
  return { meanMs, variance: meanMs * meanMs * Math.expm1(variance) };
}

/** The log-normal distribution with this expected value and variance: sums of times are never negative, and skewed while they are short. */
export function logNormalOf({ meanMs, variance }: Spread): LogNormal {
  const mean = Math.max(meanMs, 1e-3);
  const log = Math.log1p(variance / (mean * mean));
  return { mu: Math.log(mean) - log / 2, variance: log };
}

export function intervalOf(spread: Spread, stretch: Stretch = unstretched): Interval {
  const { mu, variance } = logNormalOf(spread);
  const deviation = Math.sqrt(variance);
  const middle = mu + stretch.shift;
  return {
    middleMs: Math.exp(middle),
    lowMs: Math.exp(middle - tenth * stretch.low * deviation),
    highMs: Math.exp(middle + tenth * stretch.high * deviation),
  };
}

/**
 * What is left of a time of which a part has passed: the distribution under the condition that it is longer.
 * @param passedMs at least 0
 */
export function remainderOf(whole: LogNormal, passedMs: number): Spread {
  const deviation = Math.sqrt(whole.variance);
  if (passedMs <= 0) return spreadOf(whole);
  if (deviation < 1e-9) return { meanMs: Math.max(0, Math.exp(whole.mu) - passedMs), variance: 0 };
  const z = (Math.log(passedMs) - whole.mu) / deviation;
  // Far out in the tail the formula divides zero by zero; there, what has taken long is taken to last as long again times its relative spread.
  if (z > 5) {
    const meanMs = (passedMs * deviation) / z;
    return { meanMs, variance: meanMs * meanMs };
  }
  const beyond = 1 - normalBelow(z);
  const { meanMs: mean } = spreadOf(whole);
  const first = (mean * (1 - normalBelow(z - deviation))) / beyond;
  const second = (Math.exp(2 * whole.mu + 2 * whole.variance) * (1 - normalBelow(z - 2 * deviation))) / beyond;
  return { meanMs: Math.max(0, first - passedMs), variance: Math.max(0, second - first * first) };
}

/** Share of a normal distribution below z; Abramowitz and Stegun 7.1.26, with an error below 1.5e-7, relative error small enough up to z = 5. */
function normalBelow(z: number): number {
  const x = Math.abs(z) / Math.SQRT2;
  const t = 1 / (1 + 0.3275911 * x);
  const tail = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t * Math.exp(-x * x) * 0.5;
  return z > 0 ? 1 - tail : tail;
}
