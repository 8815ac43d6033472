import type { Head } from '../contract/line.js';
import { at } from './choose-orders.js';
import type { Snapshot } from './policy.js';

/**
 * Tells whether the model of a step can be had: a host that takes work holds it, is about to, or may load it. Where none takes work, or a load has just
 * failed on each of them, nobody can tell when the step will start.
 */
export function servableIn(snapshot: Snapshot): (head: Pick<Head, 'pool' | 'key'>) => boolean {
  const live = snapshot.hosts.filter(({ paused }) => !paused).map(({ host }) => host);
  const backingOff = new Set(snapshot.backingOff.map(({ host, key }) => at(host, key)));
  const held = new Set([
    ...snapshot.residency.flatMap(({ host, key, state }) => (state === 'draining' ? [] : [at(host, key)])),
    ...snapshot.openOrders.flatMap(({ host, load }) => (load === null ? [] : [at(host, load.key)])),
  ]);
  return ({ pool, key }) => pool !== 'model' || live.some((host) => held.has(at(host, key)) || !backingOff.has(at(host, key)));
}
