import type { Head } from '../contract/line.js';
import { needOfKey } from '../contract/queues.js';
import type { Decision, GrantDecision, HostState, OrderDecision, Policy, SlotSet, Snapshot } from './policy.js';

/** How long a finished step keeps its model for the next step of its plan, which has not entered the line yet. */
export const continuationMaxMs = 2_000;

/**
 * The simplest policy: the line's order is what runs, one resident model a host at a time, and the next model is the one of the first waiting
 * step that has none. A step behind that one is not served on the old model. A plan that goes on with the same key keeps its model for at most {@link continuationMaxMs}.
 */
export const lineOrderPolicy: Policy = (snapshot: Snapshot): Decision => {
  const grants = [...grantGeneral(snapshot)];
  const orders: OrderDecision[] = [];
  const busyHosts = new Set(snapshot.openOrders.map((order) => order.host));
  const free = freeSlots(snapshot.slots.filter((set) => set.pool === 'model'));
  const hosts = new Map(snapshot.hosts.map((host) => [host.host, host]));
  // A host whose next model is decided, or is being changed, takes no more of this snapshot's heads.
  const closed = new Set(busyHosts);

  for (const head of snapshot.heads) {
    if (head.pool !== 'model' || head.key === null) continue;
    const open = [...hosts.values()].filter((host) => !closed.has(host.host));
    if (open.length === 0) break;
    const serving = open.find((host) => serves(snapshot, host, head.key));
    if (serving) {
      const set = free.get(slotKey(serving.host, head.key));
      const slot = set?.shift();
      if (slot === undefined)
        closed.add(serving.host); // full: those behind wait as well
      else
        grants.push({
          row: head.row,
          pool: 'model',
          host: serving.host,
          hostEpoch: serving.hostEpoch,
          slot,
          reason: `first in line for ${head.key}, slot ${slot}`,
        });
      continue;
    }
    const host = open.find((candidate) => !isBackingOff(snapshot, candidate, head));
    if (!host) continue; // its model failed to load a moment ago on every host: those behind may go on
    closed.add(host.host);
    if (isContinued(snapshot, host)) continue;
    orders.push(orderFor(snapshot, host, head));
  }
  return { grants, orders };
};

function* grantGeneral(snapshot: Snapshot): Iterable<GrantDecision> {
  const set = snapshot.slots.find((candidate) => candidate.pool === 'general');
  if (!set) return;
  const slots = freeOf(set);
  for (const head of snapshot.heads) {
    if (head.pool !== 'general') continue;
    const slot = slots.shift();
    if (slot === undefined) return;
    yield { row: head.row, pool: 'general', host: set.host, hostEpoch: set.hostEpoch, slot, reason: `first in line, slot ${slot}` };
  }
}

function orderFor(snapshot: Snapshot, host: HostState, head: Head): OrderDecision {
  const key = head.key ?? '';
  const model = needOfKey(key);
  if (!model) throw new Error(`row ${head.row} has no residency key: ${key}`);
  const unload = snapshot.residency.filter((row) => row.host === host.host && row.key !== key).map((row) => row.key);
  const instead = unload.length > 0 ? `, instead of ${unload.join(', ')}` : '';
  return { host: host.host, hostEpoch: host.hostEpoch, unload, load: { key, model }, reason: `the first waiting step needs ${key}${instead}` };
}

function serves(snapshot: Snapshot, host: HostState, key: string | null): boolean {
  return snapshot.residency.some((row) => row.host === host.host && row.hostEpoch === host.hostEpoch && row.key === key && row.state === 'serving');
}

function isContinued(snapshot: Snapshot, host: HostState): boolean {
  return snapshot.continuations.some((plan) => plan.host === host.host && plan.agoMs < continuationMaxMs && serves(snapshot, host, plan.key));
}

function isBackingOff(snapshot: Snapshot, host: HostState, head: Head): boolean {
  return snapshot.backingOff.some((pause) => pause.host === host.host && pause.key === head.key);
}

function freeSlots(sets: readonly SlotSet[]): Map<string, number[]> {
  return new Map(sets.map((set) => [slotKey(set.host, set.key), freeOf(set)]));
}

function freeOf(set: SlotSet): number[] {
  const taken = new Set(set.taken);
  return Array.from({ length: set.capacity }, (_, index) => index + 1).filter((slot) => !taken.has(slot));
}

function slotKey(host: string, key: string | null): string {
  return `${host} ${key ?? ''}`;
}
