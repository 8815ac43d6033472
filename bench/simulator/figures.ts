import { quantile } from '../statistics.js';
import type { Outcome } from './simulate.js';

export interface Waits {
  readonly meanMs: number;
  readonly p95Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export function waitsOf(waits: readonly number[]): Waits {
  return {
    meanMs: waits.reduce((sum, wait) => sum + wait, 0) / waits.length,
    p95Ms: quantile(waits, 0.95),
    p99Ms: quantile(waits, 0.99),
    maxMs: quantile(waits, 1),
  };
}

/** What each step was delayed by: from its arrival to its end, less what it takes on a machine of its own. Where nothing is shared it is the wait for its start. */
export function delaysOf({ done }: Outcome, level?: number): number[] {
  return done
    .filter(({ step }) => level === undefined || step.level === level)
    .map(({ step, enteredMs, endedMs }) => Math.max(0, endedMs - enteredMs - step.serviceMs));
}

/** Of each step, how many that came later started before it. */
export function overtakings({ done }: Outcome): number[] {
  return overtaken(done.map(({ step }) => step.place));
}

/** @param places the order of arrival of each, in the order of their starts */
export function overtaken(places: readonly number[]): number[] {
  // A Fenwick tree over the places that have started.
  const size = places.reduce((most, place) => Math.max(most, place), 0);
  const tree = Array.from({ length: size + 1 }, () => 0);
  return places.map((place, started) => {
    let earlier = 0;
    for (let at = place; at > 0; at -= at & -at) earlier += tree[at] ?? 0;
    for (let at = place; at <= size; at += at & -at) tree[at] = (tree[at] ?? 0) + 1;
    return started - earlier;
  });
}

/** Share of the time in which a host could have worked that went into changing models. */
export function lostShare({ lostMs, busyMs }: Outcome): number {
  return lostMs / (lostMs + busyMs);
}
