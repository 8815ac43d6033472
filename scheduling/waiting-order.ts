import { levelMax } from '../contract/priority.js';

/** Highest level that waiting leads to; levels above it are asked for, never earned. */
export const raisedLevelMax = 8;

/** How long a step of each level waits before it counts as one level higher, in milliseconds; index 0 is level 1. The last two are never used. */
export type MaxWaits = readonly number[];

/** 30 minutes for level 1, less for each higher one, down to 5 minutes for level 8. */
export const defaultMaxWaitsMs: MaxWaits = [1_800, 1_500, 1_200, 1_050, 900, 600, 450, 300, 300, 300].map((seconds) => seconds * 1_000);

/** A waiting step as far as its order matters. */
export interface Waiting {
  /** 1 to 10, as asked for */
  readonly level: number;
  /** 0 to 100 */
  readonly exact: number;
  /** order of arrival; smaller is earlier */
  readonly place: number;
  readonly waitedMs: number;
}

/** Where a step stands after its waiting is counted. */
export interface Standing {
  /** effective level, 1 to 10 */
  readonly level: number;
  /** whether it has waited its level's longest wait at least once; raised steps of a level go before those that are not, in order of arrival */
  readonly raised: boolean;
}

/**
 * Effective level: one higher for each longest wait of its level that a step has waited, up to {@link raisedLevelMax}. Levels 9 and 10 stay, and nothing else
 * reaches them, so only an endless stream of such work can hold anything off.
 * @see docs/decisions/0007-residency-policy.md
 */
export function standingOf({ level, waitedMs }: Pick<Waiting, 'level' | 'waitedMs'>, maxWaitsMs: MaxWaits): Standing {
  const longestMs = maxWaitsMs[level - 1];
  if (longestMs === undefined) throw new RangeError(`no level ${level}: expected 1 to ${levelMax}`);
  if (level > raisedLevelMax) return { level, raised: false };
  const times = Math.floor(waitedMs / longestMs);
  return { level: Math.min(raisedLevelMax, level + times), raised: times > 0 };
}

/** The order in which steps start, for one that is ready on each side: effective level, raised first, then arrival among raised and exact value and arrival among others. */
export function compareWaiting(a: Waiting, b: Waiting, maxWaitsMs: MaxWaits): number {
  const [one, other] = [standingOf(a, maxWaitsMs), standingOf(b, maxWaitsMs)];
  return compareStanding(one, a, other, b);
}

/** As {@link compareWaiting}, for standings that are known. */
export function compareStanding(one: Standing, a: Waiting, other: Standing, b: Waiting): number {
  if (one.level !== other.level) return other.level - one.level;
  if (one.raised !== other.raised) return one.raised ? -1 : 1;
  if (!one.raised && a.exact !== b.exact) return b.exact - a.exact;
  return a.place - b.place;
}
