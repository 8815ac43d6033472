import { defineQuery, defineSignal } from '@temporalio/workflow';
import type { ResidencyOrder } from '../contract/residency.js';

/** Name under which the workflow is started; equal to the exported function. */
export const changeResidencyType = 'changeResidency';

/**
 * Input of `changeResidency`. Whoever delivers an order passes `{ host }` and sends the order as a signal, with one signalWithStart;
 * `orders` is what a run hands to the next one when it continues as new.
 */
export interface ResidencyStart {
  readonly host: string;
  readonly orders?: readonly ResidencyOrder[];
}

/** What a query for the present change answers. */
export interface ResidencyProgress {
  readonly order: string | null;
  readonly phase: 'idle' | 'draining' | 'loading' | 'pulling' | 'abandoning';
  readonly waiting: number;
}

/** One order of the engine; may be delivered twice, and has no effect once it is closed. */
export const orderSignal = defineSignal<[order: ResidencyOrder]>('order');
/** What the host does now. Reads, never writes. */
export const residencyProgressQuery = defineQuery<ResidencyProgress>('progress');
