import type { ResidencyKey } from '../contract/queues.js';
import type { ResidencyRow } from '../contract/residency.js';

/** Which Workers of model queues to start and stop. */
export interface WorkerChange {
  readonly start: readonly ResidencyKey[];
  readonly stop: readonly ResidencyKey[];
}

/**
 * Compares the Workers that run with the residency rows of the host. A key has a Worker while it is `serving`, and while it is `draining` too:
 * a step granted just before the drain has still to find its Worker, and the row goes only when no such step is left.
 * @param rows rows of any epoch; those of another one count for nothing
 */
export function planWorkers(rows: readonly ResidencyRow[], epoch: number, working: ReadonlySet<ResidencyKey>): WorkerChange {
  const wanted = new Set(rows.filter((row) => row.hostEpoch === epoch && row.state !== 'loading').map((row) => row.key));
  return {
    start: rows.filter((row) => wanted.has(row.key) && row.state === 'serving' && !working.has(row.key)).map((row) => row.key),
    stop: [...working].filter((key) => !wanted.has(key)),
  };
}
