import { type LogNormal, type Spread, spreadOf } from './spread.js';

/** A step of a plan, with what it is expected to take. */
export interface TimedStep {
  readonly id: string;
  /** ids of the steps that end before it */
  readonly needs: readonly string[];
  readonly duration: LogNormal;
}

/**
 * What a plan takes from the start of its first step to the end of its last one while nothing keeps it waiting: the longest chain of its steps.
 * @param steps in an order in which every step stands behind those that it needs
 */
export function planDuration(steps: readonly TimedStep[]): Spread {
  const nothing: Spread = { meanMs: 0, variance: 0 };
  const later = (a: Spread, b: Spread) => (b.meanMs > a.meanMs ? b : a);
  const ends = new Map<string, Spread>();
  for (const { id, needs, duration } of steps) {
    const start = needs.map((need) => ends.get(need) ?? nothing).reduce(later, nothing);
    const own = spreadOf(duration);
    ends.set(id, { meanMs: start.meanMs + own.meanMs, variance: start.variance + own.variance });
  }
  return [...ends.values()].reduce(later, nothing);
}
