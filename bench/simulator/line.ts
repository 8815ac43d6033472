import type { ResidencyKey } from '../../contract/queues.js';

/** One step of a simulated load. */
export interface SimStep {
  /** order of arrival, from 1; unique */
  readonly place: number;
  readonly arrivalMs: number;
  readonly key: ResidencyKey;
  /** 1 to 10 */
  readonly level: number;
  /** 0 to 100 */
  readonly exact: number;
  /** what it takes on a machine of its own */
  readonly serviceMs: number;
  /** step of the same plan that enters `gapMs` after this one has ended; its `arrivalMs` counts from then */
  readonly then?: SimStep;
}

/** A step that waits. */
export interface WaitingStep {
  readonly step: SimStep;
  readonly enteredMs: number;
  /** the step before it in its plan ran on the same key */
  readonly continues: boolean;
  started: boolean;
}

interface Queue {
  readonly byExact: WaitingStep[];
  readonly byArrival: WaitingStep[];
}

/** All that waits, by key and level, so that the first of each is found without a look at the rest. */
export class Line {
  readonly #queues = new Map<ResidencyKey, (Queue | undefined)[]>();
  readonly #counts = new Map<ResidencyKey, { waiting: number; workMs: number }>();
  readonly #arrivals: WaitingStep[] = [];
  waiting = 0;

  enter(waiting: WaitingStep): void {
    const { key, level, exact, place, serviceMs } = waiting.step;
    const levels = this.#queues.get(key) ?? [];
    this.#queues.set(key, levels);
    const queue = (levels[level] ??= { byExact: [], byArrival: [] });
    insert(queue.byExact, waiting, (other) => other.step.exact > exact || (other.step.exact === exact && other.step.place < place));
    insert(queue.byArrival, waiting, (other) => other.step.place < place);
    insert(this.#arrivals, waiting, (other) => other.step.place < place);
    const count = this.#counts.get(key) ?? { waiting: 0, workMs: 0 };
    this.#counts.set(key, { waiting: count.waiting + 1, workMs: count.workMs + serviceMs });
    this.waiting += 1;
  }

  start(waiting: WaitingStep): void {
    if (waiting.started) throw new Error(`step ${waiting.step.place} was started twice`);
    waiting.started = true;
    const count = this.count(waiting.step.key);
    if (count.waiting === 1) this.#counts.delete(waiting.step.key);
    else this.#counts.set(waiting.step.key, { waiting: count.waiting - 1, workMs: count.workMs - waiting.step.serviceMs });
    this.waiting -= 1;
  }

  /** Keys that steps wait for. */
  keys(): Iterable<ResidencyKey> {
    return this.#counts.keys();
  }

  count(key: ResidencyKey): { readonly waiting: number; readonly workMs: number } {
    return this.#counts.get(key) ?? { waiting: 0, workMs: 0 };
  }

  /** The first `most` of a key and level by exact value and arrival, and as many of those that entered before `raisedBeforeMs` by arrival. */
  heads(key: ResidencyKey, level: number, most: number, raisedBeforeMs: number): WaitingStep[] {
    const queue = this.#queues.get(key)?.[level];
    if (!queue) return [];
    const first = take(queue.byExact, most);
    const [oldest] = take(queue.byArrival, 1);
    if (oldest === undefined || oldest.enteredMs > raisedBeforeMs) return first;
    const raised = take(queue.byArrival, most).filter((each) => each.enteredMs <= raisedBeforeMs && !first.includes(each));
    return [...first, ...raised];
  }

  /** The first `most` of a key by arrival, whatever their level. */
  oldestOf(key: ResidencyKey, most: number): WaitingStep[] {
    const levels = (this.#queues.get(key) ?? []).flatMap((queue) => (queue ? take(queue.byArrival, most) : []));
    return levels.sort((a, b) => a.step.place - b.step.place).slice(0, most);
  }

  /** The first by arrival, whatever their key, one after another. */
  *oldest(): Iterable<WaitingStep> {
    trim(this.#arrivals);
    for (const waiting of this.#arrivals) if (!waiting.started) yield waiting;
  }
}

function take(queue: WaitingStep[], most: number): WaitingStep[] {
  trim(queue);
  const taken: WaitingStep[] = [];
  for (const waiting of queue) {
    if (taken.length === most) break;
    if (!waiting.started) taken.push(waiting);
  }
  return taken;
}

/** Drops what has started from the front, many at a time. */
function trim(queue: WaitingStep[]): void {
  let gone = 0;
  while (queue[gone]?.started === true) gone += 1;
  if (gone > 64 || gone === queue.length) queue.splice(0, gone);
}

function insert(queue: WaitingStep[], waiting: WaitingStep, isBefore: (other: WaitingStep) => boolean): void {
  let [low, high] = [0, queue.length];
  const last = queue.at(-1);
  if (last === undefined || isBefore(last)) low = high;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isBefore(queue[middle] as WaitingStep)) low = middle + 1;
    else high = middle;
  }
  queue.splice(low, 0, waiting);
}
