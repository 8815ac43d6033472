import type { Head } from '../../contract/line.js';
import type { Snapshot } from '../../scheduling/policy.js';

/** Nothing waits, and there is nothing. */
export const emptySnapshot: Snapshot = {
  heads: [],
  slots: [],
  hosts: [],
  residency: [],
  openOrders: [],
  continuations: [],
  backingOff: [],
  costs: [],
  backlog: [],
  soon: [],
};

/** A step without a model that has come just now; its row is its place and its task's number. */
export function waitingHead(row: number, more: Partial<Head> = {}): Head {
  return { row: String(row), taskId: `task ${row}`, pool: 'general', key: null, level: 5, exact: 50, place: row, waitedMs: 0, continues: false, ...more };
}
