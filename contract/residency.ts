import type { ModelNeed, ResidencyKey } from './queues.js';

export type ResidencyState = 'loading' | 'serving' | 'draining';

/** How far a model that an order unloads is from that; `stale`: the order is not to be carried out any more. */
export type DrainState = 'busy' | 'idle' | 'stale';

/** What the engine wants a host to hold. */
export interface ResidencyRow {
  readonly host: string;
  readonly hostEpoch: number;
  readonly key: ResidencyKey;
  readonly model: ModelNeed;
  readonly state: ResidencyState;
  readonly sinceMs: number;
}

/** One change of a host's residency: unload the victims, then load and serve. Input of `changeResidency`. */
export interface ResidencyOrder {
  readonly id: string;
  readonly host: string;
  readonly hostEpoch: number;
  readonly unload: readonly ResidencyKey[];
  readonly load: { readonly key: ResidencyKey; readonly model: ModelNeed } | null;
  /** a model that is fetched and nothing else; with `load`: since that needs it. Such an order changes no memory, so others of its host are carried out meanwhile. */
  readonly pull?: string;
}

/** Code of an order whose host stopped answering or started anew: nobody is refused, and the next decision orders anew. */
export const hostLost = 'host_lost';

/** Code of an order whose model has to be fetched while its host fetches as many as it may: it is ordered again later. */
export const fetchWaits = 'fetch_waits';

/** Code of an order that urgent work ended before its load began: another one took its place, or the model that it unloads serves on. */
export const orderRevised = 'revised';

/** Why an order was not carried out. */
export interface OrderFailure {
  /** a code of MODEL-13, or {@link hostLost} */
  readonly code: string;
  readonly message: string;
  /** false: the same order would fail again */
  readonly retryable: boolean;
  /** what was being done */
  readonly phase?: 'draining' | 'pulling' | 'loading';
}
