import type { ResidencyKey } from '../../contract/queues.js';
import type { SimStep } from './line.js';

/** Loads that nobody can do without when the order is fixed: the model needed latest goes (Belady), with `slots` of them. */
export function beladyLoads(order: readonly ResidencyKey[], slots: number): number {
  const nextUse = order.map(() => Infinity);
  const seen = new Map<ResidencyKey, number>();
  for (let at = order.length - 1; at >= 0; at -= 1) {
    const key = order[at] as ResidencyKey;
    nextUse[at] = seen.get(key) ?? Infinity;
    seen.set(key, at);
  }
  const held = new Map<ResidencyKey, number>();
  let loads = 0;
  for (const [at, key] of order.entries()) {
    if (!held.has(key)) {
      loads += 1;
      if (held.size >= slots) {
        let latest: ResidencyKey | null = null;
        for (const [other, use] of held) if (latest === null || use > (held.get(latest) ?? 0)) latest = other;
        if (latest !== null) held.delete(latest);
      }
    }
    held.set(key, nextUse[at] as number);
  }
  return loads;
}

export function distinctModels(steps: readonly SimStep[]): number {
  return new Set(steps.map(({ key }) => key)).size;
}

/** Waits in arrival order on one machine on which loading takes no time. */
export function fifoWaits(steps: readonly SimStep[]): number[] {
  let freeMs = 0;
  return [...steps]
    .sort((a, b) => a.arrivalMs - b.arrivalMs)
    .map(({ arrivalMs, serviceMs }) => {
      const startMs = Math.max(freeMs, arrivalMs);
      freeMs = startMs + serviceMs;
      return startMs - arrivalMs;
    });
}

/** Waits when the shortest goes first on such a machine: no order has a lower mean. */
export function shortestFirstWaits(steps: readonly SimStep[]): number[] {
  const arrivals = [...steps].sort((a, b) => a.arrivalMs - b.arrivalMs);
  const heap = new Shortest();
  const waits: number[] = [];
  let [next, nowMs] = [0, 0];
  while (waits.length < steps.length) {
    if (heap.size === 0) nowMs = Math.max(nowMs, arrivals[next]?.arrivalMs ?? nowMs);
    for (let step = arrivals[next]; step !== undefined && step.arrivalMs <= nowMs; step = arrivals[++next]) heap.push(step);
    const step = heap.pop();
    if (!step) break;
    waits.push(nowMs - step.arrivalMs);
    nowMs += step.serviceMs;
  }
  return waits;
}

/** No machine with one slot is through earlier when all of it waits at the start: all work and one load of each model. */
export function makespanMs(steps: readonly SimStep[], loadMs: number): number {
  return steps.reduce((sum, { serviceMs }) => sum + serviceMs, 0) + distinctModels(steps) * loadMs;
}

class Shortest {
  readonly #heap: SimStep[] = [];

  get size(): number {
    return this.#heap.length;
  }

  push(step: SimStep): void {
    const heap = this.#heap;
    let at = heap.push(step) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (this.#work(parent) <= this.#work(at)) break;
      this.#swap(at, parent);
      at = parent;
    }
  }

  pop(): SimStep | undefined {
    const heap = this.#heap;
    const [first] = heap;
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    heap[0] = last;
    for (let at = 0; ; ) {
      const child = 2 * at + 1;
      const smaller = this.#work(child + 1) < this.#work(child) ? child + 1 : child;
      if (this.#work(smaller) >= this.#work(at)) return first;
      this.#swap(at, smaller);
      at = smaller;
    }
  }

  #work(at: number): number {
    return this.#heap[at]?.serviceMs ?? Infinity;
  }

  #swap(a: number, b: number): void {
    const kept = this.#heap[a] as SimStep;
    this.#heap[a] = this.#heap[b] as SimStep;
    this.#heap[b] = kept;
  }
}
