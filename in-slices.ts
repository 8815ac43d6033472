import { setImmediate } from 'node:timers/promises';
import type { Slices } from './scheduling/slices.js';

/** The process does nothing else for this long, in milliseconds. */
const sliceMs = 5;

/** Does slices of work for a moment, then lets everything else of the process go on: a long line holds up nobody. */
export async function inSlices<T>(slices: Slices<T>): Promise<T> {
  for (;;) {
    const startedMs = performance.now();
    do {
      const { done, value } = slices.next();
      if (done === true) return value;
    } while (performance.now() - startedMs < sliceMs);
    await setImmediate();
  }
}
