import { exactMax, levelMax } from '../contract/priority.js';
import { MinHeap } from './min-heap.js';
import { type MaxWaits, raisedLevelMax, type Standing, standingOf, type Waiting } from './waiting-order.js';

/** Places are whole numbers below this. */
const placesMax = 2 ** 40;

/** The order of compareStanding as one number: the smaller one starts first. Places are whole numbers from 0 to 2^40. */
export function rankOf({ level, raised }: Standing, { exact, place }: Pick<Waiting, 'exact' | 'place'>): number {
  const tier = (levelMax - level) * 2 + (raised ? 0 : 1);
  return (tier * 128 + (raised ? 0 : exactMax - exact)) * placesMax + place;
}

/** A step as the queue knows it; times are milliseconds of the same clock. */
export interface QueuedStep extends Pick<Waiting, 'level' | 'exact' | 'place'> {
  readonly enteredMs: number;
}

/** Steps of one level in the order in which they entered, and how many of them have waited so long that they were raised once, twice, ... */
interface Cohort {
  readonly steps: number[];
  readonly raisedUpTo: number[];
}

/**
 * The waiting steps of one pool or key in the line's order while time goes on: the order of waiting-order.ts, kept up to date instead of sorted anew.
 * Steps are indexes into the array that it is made with; each is added once.
 */
export class WaitingQueue {
  readonly #steps: readonly QueuedStep[];
  readonly #maxWaitsMs: MaxWaits;
  readonly #heap = new MinHeap();
  readonly #waiting = new Set<number>();
  readonly #cohorts: (Cohort | undefined)[] = Array.from({ length: levelMax + 1 });
  /** when the order may change next without anybody coming or going */
  nextRaiseMs = Infinity;
  /** rank of the first; Infinity when none waits */
  firstRank = Infinity;
  /** the first; -1 when none waits */
  first = -1;

  constructor(steps: readonly QueuedStep[], maxWaitsMs: MaxWaits) {
    this.#steps = steps;
    this.#maxWaitsMs = maxWaitsMs;
  }

  get size(): number {
    return this.#waiting.size;
  }

  /** In no particular order. */
  waiting(): Iterable<number> {
    return this.#waiting;
  }

  rankAt(index: number, nowMs: number): number {
    const step = this.#steps[index] as QueuedStep;
    return rankOf(standingOf({ level: step.level, waitedMs: Math.max(0, nowMs - step.enteredMs) }, this.#maxWaitsMs), step);
  }

  add(index: number, nowMs: number): void {
    const step = this.#steps[index] as QueuedStep;
    this.#waiting.add(index);
    this.#heap.push(this.rankAt(index, nowMs), index);
    this.#noteFirst();
    if (step.level >= raisedLevelMax + 1) return;
    const raisesMax = Math.max(1, raisedLevelMax - step.level);
    const cohort = (this.#cohorts[step.level] ??= { steps: [], raisedUpTo: Array.from({ length: raisesMax }, () => 0) });
    let at = cohort.steps.length;
    while (at > 0 && (this.#steps[cohort.steps[at - 1] as number] as QueuedStep).enteredMs > step.enteredMs) at -= 1;
    cohort.steps.splice(at, 0, index);
    const longestMs = this.#maxWaitsMs[step.level - 1] as number;
    for (let raise = 1; raise <= raisesMax; raise++) {
      const upTo = cohort.raisedUpTo[raise - 1] as number;
      const dueMs = step.enteredMs + raise * longestMs;
      // Those before upTo were raised, or had gone by then; looking at one of them again does no harm.
      if (at < upTo) cohort.raisedUpTo[raise - 1] = dueMs <= nowMs ? upTo + 1 : at;
      if (dueMs > nowMs || at >= upTo) this.nextRaiseMs = Math.min(this.nextRaiseMs, dueMs);
    }
  }

  take(index: number): void {
    this.#waiting.delete(index);
    this.#noteFirst();
  }

  /** Lets time go on: steps that have waited another longest wait stand anew. */
  advance(nowMs: number): void {
    if (nowMs < this.nextRaiseMs) return;
    this.nextRaiseMs = Infinity;
    for (let level = 1; level <= raisedLevelMax; level++) {
      const cohort = this.#cohorts[level];
      if (cohort === undefined) continue;
      const longestMs = this.#maxWaitsMs[level - 1] as number;
      for (let raise = 1; raise <= cohort.raisedUpTo.length; raise++) {
        let upTo = cohort.raisedUpTo[raise - 1] as number;
        for (; upTo < cohort.steps.length; upTo++) {
          const index = cohort.steps[upTo] as number;
          if (this.#waiting.has(index)) {
            const dueMs = (this.#steps[index] as QueuedStep).enteredMs + raise * longestMs;
            if (dueMs > nowMs) {
              this.nextRaiseMs = Math.min(this.nextRaiseMs, dueMs);
              break;
            }
            this.#heap.push(this.rankAt(index, nowMs), index);
          }
        }
        cohort.raisedUpTo[raise - 1] = upTo;
      }
    }
    this.#noteFirst();
  }

  /** A raised step stands in the heap several times, and one that was taken still does. */
  #noteFirst(): void {
    while (this.#heap.size > 0 && !this.#waiting.has(this.#heap.top)) this.#heap.pop();
    this.firstRank = this.#heap.topRank;
    this.first = this.#heap.top;
  }
}
