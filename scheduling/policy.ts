import type { Head } from '../contract/line.js';
import type { ModelNeed, ResidencyKey } from '../contract/queues.js';
import type { AffinityTerms } from './choose-change.js';
import type { ResidencyOrder, ResidencyRow } from '../contract/residency.js';
import type { HoldsState } from './holds.js';

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
  /** models in memory at the same time, at least 1 */
  readonly modelsMax: number;
  /** bytes that our models may take now: the budget less what other programs use of it; null: not limited by bytes */
  readonly roomBytes: number | null;
  /** the whole budget; null: not limited by bytes */
  readonly budgetBytes: number | null;
  /** takes no grants and no changes until it is resumed */
  readonly paused: boolean;
}

/** What the engine wants a host to hold, with the service that it gave since its load: the sum over its slots, divided by their number. */
export interface ResidentRow extends ResidencyRow {
  readonly servedMs: number;
}

/** What is known of a key on a host from loads that were measured, or from the size of its file. */
export interface KeyCost {
  readonly host: string;
  readonly key: ResidencyKey;
  /** null: not loaded there yet */
  readonly loadMs: number | null;
  /** bytes in memory; null: not known */
  readonly bytes: number | null;
}

/** All that waits for a key, those beyond the snapshot's heads included. */
export interface Backlog {
  readonly key: ResidencyKey;
  readonly waiting: number;
  /** expected service of one of its steps; null: none was measured yet */
  readonly serviceMs: number | null;
}

/** A key that a step which has not entered the line yet is going to need: a later step of a running plan, or one whose dependencies run. */
export interface Soon {
  readonly key: ResidencyKey;
  /** milliseconds from now, as far as it can be told */
  readonly inMs: number;
}

/** A finished step whose plan goes on with the same key, and whose next step has not entered the line yet. */
export interface Continuation {
  readonly key: ResidencyKey;
  readonly host: string;
  readonly agoMs: number;
  /** level of its task */
  readonly level: number;
}

/** A key that may not be ordered yet on a host. */
export interface BackingOff {
  readonly host: string;
  readonly key: ResidencyKey;
  /** its model is being fetched; left out: its last load failed */
  readonly fetching?: boolean;
}

/**
 * Everything a decision may look at; plain data, read in one transaction. The heads hold, as many as there are free slots, the first ones of each served key
 * (or of `general`) and level by exact value and arrival, the first ones of those that are raised, and those whose plan goes on with the key; of any other
 * key its first one. Work that is held or paused is not among them.
 */
export interface Snapshot {
  readonly heads: readonly Head[];
  readonly slots: readonly SlotSet[];
  readonly hosts: readonly HostState[];
  readonly residency: readonly ResidentRow[];
  /** orders not finished yet, at most one per host */
  readonly openOrders: readonly ResidencyOrder[];
  /** ids of those that the engine gave and whose load has not begun: something urgent may have them changed; left out: none */
  readonly revisable?: readonly string[];
  readonly continuations: readonly Continuation[];
  readonly backingOff: readonly BackingOff[];
  /** of keys on hosts that have their models; also of hosts that are not there but were a moment ago */
  readonly costs: readonly KeyCost[];
  readonly backlog: readonly Backlog[];
  readonly soon: readonly Soon[];
  /** left out: nobody holds anything, and nobody needs anything */
  readonly holds?: HoldsState;
  /** of each level and model the first ones, by order and by arrival, whose task lacks something that it needs; they are not among the heads */
  readonly lacking?: readonly Head[];
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
  /** id of the open order that it takes the place of; it unloads at least what that one would */
  readonly revises?: string;
  readonly reason: string;
  /** the score terms of what is unloaded */
  readonly terms: readonly AffinityTerms[];
}

/** An open order that is given up, since urgent work needs what it unloads: that serves again. */
export interface KeepDecision {
  readonly host: string;
  /** id of the order */
  readonly order: string;
  /** what the urgent work needs */
  readonly key: ResidencyKey;
  readonly reason: string;
}

/** A key whose steps cannot run on any host that is there. */
export interface RefuseDecision {
  readonly key: ResidencyKey;
  readonly reason: string;
}

/** Why a key that steps wait for is not loaded now; what a person who asks is told. */
export interface HeldBack {
  readonly key: ResidencyKey;
  readonly host: string | null;
  readonly why: 'quantum' | 'changing' | 'no_room' | 'backing_off' | 'fetching' | 'behind' | 'no_host';
  /** the model that is served meanwhile, or that is in the way */
  readonly other: ResidencyKey | null;
  /** service that the other one has left; null where that is not what it waits for */
  readonly leftMs: number | null;
}

export interface Decision {
  readonly grants: readonly GrantDecision[];
  readonly orders: readonly OrderDecision[];
  readonly keeps: readonly KeepDecision[];
  readonly refusals: readonly RefuseDecision[];
  readonly heldBack: readonly HeldBack[];
}

/** Who ordered the line for a decision, where that is not simply the policy that is configured. */
export interface DecidedBy {
  readonly algorithm: 'reinforcement_learning' | 'priority_affinity';
  /** of the learned agent; null: it had no part */
  readonly version: string | null;
  /** why the learned agent had no part, in a sentence; null: it had */
  readonly instead: string | null;
}

/** A scheduling policy: a pure function of what is there. */
export type Policy = (snapshot: Snapshot) => Decision;
