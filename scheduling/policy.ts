import type { Head } from '../contract/line.js';
import type { ModelNeed, ResidencyKey } from '../contract/queues.js';
import type { ResidencyOrder, ResidencyRow } from '../contract/residency.js';

/** Slots of the engines or of one serving key on one host, and which of them are taken (1-based numbers). */
export interface SlotSet {
  readonly pool: 'general' | 'model';
  readonly host: string;
  readonly hostEpoch: number;
  /** null for `general` */
  readonly key: ResidencyKey | null;
  readonly capacity: number;
  readonly taken: readonly number[];
}

/** A live host with a model server that answers. */
export interface HostState {
  readonly host: string;
  readonly hostEpoch: number;
  /** concurrent inferences of one resident key, at least 1 */
  readonly parallel: number;
}

/** A finished step whose plan goes on with the same key, and whose next step has not entered the line yet. */
export interface Continuation {
  readonly key: ResidencyKey;
  readonly host: string;
  readonly agoMs: number;
}

/** Everything a decision may look at; plain data, read in one transaction. Heads are in the line's order. */
export interface Snapshot {
  readonly heads: readonly Head[];
  readonly slots: readonly SlotSet[];
  readonly hosts: readonly HostState[];
  readonly residency: readonly ResidencyRow[];
  /** orders not finished yet, at most one per host */
  readonly openOrders: readonly ResidencyOrder[];
  readonly continuations: readonly Continuation[];
  /** keys that may not be ordered yet on a host, since their last load failed */
  readonly backingOff: readonly { readonly host: string; readonly key: ResidencyKey }[];
}

export interface GrantDecision {
  readonly row: string;
  readonly pool: 'general' | 'model';
  readonly host: string;
  readonly hostEpoch: number;
  readonly slot: number;
  readonly reason: string;
}

export interface OrderDecision {
  readonly host: string;
  readonly hostEpoch: number;
  readonly unload: readonly ResidencyKey[];
  readonly load: { readonly key: ResidencyKey; readonly model: ModelNeed } | null;
  readonly reason: string;
}

export interface Decision {
  readonly grants: readonly GrantDecision[];
  readonly orders: readonly OrderDecision[];
}

/** A scheduling policy: a pure function of what is there. */
export type Policy = (snapshot: Snapshot) => Decision;
