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

/** A step as the queues know it; times are milliseconds of the same clock. */
export interface QueuedStep extends Pick<Waiting, 'level' | 'exact' | 'place'> {
  readonly enteredMs: number;
}

/** Steps of one level in the order in which they entered, whatever queue they are in. */
interface Cohort {
  readonly level: number;
  readonly steps: number[];
  readonly longestMs: number;
  /** by raise, from the first: how many of them have waited so long already, or had gone by then */
  readonly raised: number[];
  /** by raise: when the next of them will have */
  readonly dueMs: number[];
}

/**
 * The waiting steps of each pool or key in the line's order while time goes on: the order of waiting-order.ts, kept up to date instead of sorted anew.
 * Steps are indexes into the array that it is made with, and are added once; queues are numbers from 0.
 */
export class WaitingQueues {
  /** by queue: rank of the first step; Infinity when none waits */
  readonly firstRanks: number[] = [];
  /** by queue: the first step; -1 when none waits */
  readonly firsts: number[] = [];
  /** by queue: how many wait */
  readonly sizes: number[] = [];
  /** when the order may change next without anybody coming or going */
  nextRaiseMs = Infinity;

  readonly #steps: readonly QueuedStep[];
  readonly #maxWaitsMs: MaxWaits;
  readonly #heaps: MinHeap[] = [];
  /** by step: its queue; -1: it does not wait */
  readonly #queueOf: number[] = [];
  readonly #cohorts: readonly Cohort[];

  constructor(steps: readonly QueuedStep[], maxWaitsMs: MaxWaits) {
    this.#steps = steps;
    this.#maxWaitsMs = maxWaitsMs;
    this.#cohorts = maxWaitsMs.slice(0, raisedLevelMax).map((longestMs, index) => {
      const raises = Math.max(1, raisedLevelMax - index - 1);
      return { level: index + 1, steps: [], longestMs, raised: Array.from({ length: raises }, () => 0), dueMs: Array.from({ length: raises }, () => Infinity) };
    });
  }

  /** @returns the number of a new queue, the next one */
  open(): number {
    this.#heaps.push(new MinHeap());
    this.firstRanks.push(Infinity);
    this.firsts.push(-1);
    this.sizes.push(0);
    return this.#heaps.length - 1;
  }

  rankAt(index: number, nowMs: number): number {
    const step = this.#steps[index] as QueuedStep;
    return rankOf(standingOf({ level: step.level, waitedMs: Math.max(0, nowMs - step.enteredMs) }, this.#maxWaitsMs), step);
  }

  add(queue: number, index: number, nowMs: number): void {
    while (this.#queueOf.length <= index) this.#queueOf.push(-1);
    this.#queueOf[index] = queue;
    this.sizes[queue] = (this.sizes[queue] as number) + 1;
    (this.#heaps[queue] as MinHeap).push(this.rankAt(index, nowMs), index);
    this.#noteFirst(queue);
    const { level, enteredMs } = this.#steps[index] as QueuedStep;
    const cohort = this.#cohorts[level - 1];
    if (cohort !== undefined) this.#join(cohort, index, enteredMs, nowMs);
  }

  take(index: number): void {
    const queue = this.#queueOf[index] as number;
    this.#queueOf[index] = -1;
    this.sizes[queue] = (this.sizes[queue] as number) - 1;
    this.#noteFirst(queue);
  }

  /** Lets time go on: steps that have waited another longest wait stand anew. */
  advance(nowMs: number): void {
    if (nowMs < this.nextRaiseMs) return;
    let nextMs = Infinity;
    for (const cohort of this.#cohorts) {
      for (let raise = 0; raise < cohort.dueMs.length; raise++) {
        if ((cohort.dueMs[raise] as number) <= nowMs) this.#raise(cohort, raise, nowMs);
        nextMs = Math.min(nextMs, cohort.dueMs[raise] as number);
      }
    }
    this.nextRaiseMs = nextMs;
  }

  #raise(cohort: Cohort, raise: number, nowMs: number): void {
    const { steps, longestMs } = cohort;
    const standing = { level: Math.min(raisedLevelMax, cohort.level + raise + 1), raised: true };
    let upTo = cohort.raised[raise] as number;
    let dueMs = Infinity;
    for (; upTo < steps.length; upTo++) {
      const index = steps[upTo] as number;
      const queue = this.#queueOf[index] as number;
      if (queue < 0) continue;
      const step = this.#steps[index] as QueuedStep;
      dueMs = step.enteredMs + (raise + 1) * longestMs;
      if (dueMs > nowMs) break;
      dueMs = Infinity;
      (this.#heaps[queue] as MinHeap).push(rankOf(standing, step), index);
      this.#noteFirst(queue);
    }
    cohort.raised[raise] = upTo;
    cohort.dueMs[raise] = dueMs;
  }

  /** Steps come in the order in which they entered, but for some. */
  #join({ steps, longestMs, raised, dueMs }: Cohort, index: number, enteredMs: number, nowMs: number): void {
    let at = steps.length;
    while (at > 0 && (this.#steps[steps[at - 1] as number] as QueuedStep).enteredMs > enteredMs) at -= 1;
    steps.splice(at, 0, index);
    for (let raise = 0; raise < raised.length; raise++) {
      const upTo = raised[raise] as number;
      const due = enteredMs + (raise + 1) * longestMs;
      if (at > upTo) continue; // one before it is due before it
      if (due <= nowMs) {
        raised[raise] = upTo + 1; // it stands so already
        continue;
      }
      raised[raise] = at; // looking again at what is behind it does no harm
      dueMs[raise] = due;
      this.nextRaiseMs = Math.min(this.nextRaiseMs, due);
    }
  }

  /** A raised step stands in its heap several times, and one that was taken still does. */
  #noteFirst(queue: number): void {
    const heap = this.#heaps[queue] as MinHeap;
    while (heap.size > 0 && this.#queueOf[heap.top] !== queue) heap.pop();
    this.firstRanks[queue] = heap.topRank;
    this.firsts[queue] = heap.top;
  }
}
