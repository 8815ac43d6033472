import type { ForecastReason } from '../contract/forecast.js';
import type { Needs } from '../contract/holds.js';
import type { Pool } from '../contract/plan.js';
import type { ResidencyKey } from '../contract/queues.js';
import type { ResidencyOrder } from '../contract/residency.js';
import type { PoolState } from './holds.js';
import type { BackingOff, HostState, KeyCost, ResidentRow } from './policy.js';
import type { LogNormal } from './spread.js';

/** A step of a task: one that is in the line, or one that is going to enter it. */
export interface StepState {
  readonly step: string;
  readonly pool: Pool;
  /** set exactly when `pool` is `model` */
  readonly key: ResidencyKey | null;
  readonly duration: LogNormal;
  readonly now:
    | {
        readonly state: 'waiting';
        readonly waitedMs: number;
        /** milliseconds until it may be granted; 0: now; null: when the tasks that its task waits for have completed */
        readonly dueInMs: number | null;
        readonly continues: boolean;
        /** it is not granted until a person does something */
        readonly heldBy: Extract<ForecastReason, 'held' | 'paused' | 'blocked' | 'waiting_resource'> | null;
        /** what somebody else has that its task needs */
        readonly lacks?: 'waiting_lock' | 'waiting_resource' | null;
      }
    | { readonly state: 'running'; readonly host: string; readonly ranMs: number }
    /** it enters the line when the steps that it needs have ended; all have: it is about to */
    | { readonly state: 'later'; readonly needs: readonly string[] };
}

/** A task that has not ended, with those of its steps that have not ended. */
export interface TaskState {
  readonly id: string;
  /** 1 to 10 */
  readonly level: number;
  /** 0 to 100 */
  readonly exact: number;
  /** order of arrival, a whole number from 0; smaller is earlier */
  readonly place: number;
  readonly steps: readonly StepState[];
  /** tasks that have to complete first; one that is not in the state counts as completed */
  readonly after: readonly string[];
  /** exclusive rights that it needs from its first step to its end, such as a lock */
  readonly rights: readonly { readonly name: string; readonly has: boolean }[];
  /** parts of resource pools that it has to be given with its first grant; null: none, or it has them */
  readonly needs?: Needs['amounts'] | null;
  /** parts that it holds and gives back when it ends; not those that a person keeps from ending */
  readonly held?: Needs['amounts'];
}

/** All that the forecast looks at; plain data. */
export interface LineState {
  readonly tasks: readonly TaskState[];
  /** slots for steps without a model */
  readonly generalSlots: number;
  readonly hosts: readonly HostState[];
  readonly residency: readonly ResidentRow[];
  readonly openOrders: readonly (ResidencyOrder & { readonly forMs: number })[];
  readonly costs: readonly KeyCost[];
  readonly backingOff: readonly (BackingOff & { readonly forMs: number })[];
  /** what there is of resource pools, and what is free; null: nobody waits who needs any */
  readonly pools: readonly PoolState[] | null;
  /** no step is granted until a person resumes the line */
  readonly paused: boolean;
}
