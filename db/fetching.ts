import { needOfKey, type ResidencyKey } from '../contract/queues.js';
import type { ResidencyOrder } from '../contract/residency.js';

/** A model that is not to be loaded on a host, since it is being fetched. */
export interface Fetching {
  readonly host: string;
  readonly model: string;
  /** how long that is likely to go on */
  readonly forMs: number;
}

/** The keys among those given that wait for a fetch, by host. */
export function keysFetching(fetching: readonly Fetching[], keys: Iterable<ResidencyKey>) {
  if (fetching.length === 0) return [];
  const byModel = new Map<string, Fetching[]>();
  for (const each of fetching) byModel.set(each.model, [...(byModel.get(each.model) ?? []), each]);
  return [...keys].flatMap((key) => (byModel.get(needOfKey(key)?.name ?? '') ?? []).map(({ host, forMs }) => ({ host, key, forMs, fetching: true })));
}

/** Whether an order changes what its host holds; one that fetches a model does not. */
export function changesMemory(order: Pick<ResidencyOrder, 'pull'>): boolean {
  return order.pull === undefined;
}
