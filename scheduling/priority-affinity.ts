import type { Head } from '../contract/line.js';
import type { ResidencyKey } from '../contract/queues.js';
import { at, chooseOrders, type RankedHead } from './choose-orders.js';
import { type Applicant, type HoldsState, mayPass, nothingHeld, type Reservation, reservationOf, shortageOf, withTaken } from './holds.js';
import type { Decision, GrantDecision, OrderDecision, Policy, SlotSet, Snapshot } from './policy.js';
import { servableIn } from './servable.js';
import { compareStanding, defaultMaxWaitsMs, type MaxWaits, standingOf } from './waiting-order.js';

export interface AffinitySettings {
  readonly maxWaitsMs: MaxWaits;
}

/**
 * The default policy: steps of loaded models in the line's order for as long as what a load buys lasts, then the model of the first waiting step.
 * @see docs/decisions/0007-residency-policy.md
 */
export function priorityAffinity({ maxWaitsMs }: AffinitySettings = { maxWaitsMs: defaultMaxWaitsMs }): Policy {
  return (snapshot: Snapshot): Decision => {
    const holds = snapshot.holds ?? nothingHeld;
    const reservation = reservationOf(holds, applicantsIn(snapshot, rank(snapshot.lacking ?? [], maxWaitsMs)));
    const ranked = rank(snapshot.heads, maxWaitsMs).filter((each) => mayHave(holds, reservation, each));
    const byKey = groupByKey(ranked);
    const { orders, keeps, refusals, heldBack, ending } = chooseOrders(snapshot, byKey);
    const leaving = leavingKeys(snapshot, orders);
    return { grants: [...grantHeads(snapshot, ranked, reservation, leaving, ending)], orders, keeps, refusals, heldBack };
  };
}

/** Those of them whose tasks need something and who could start if they had it. */
function applicantsIn(snapshot: Snapshot, ranked: readonly RankedHead[]): (RankedHead & Applicant)[] {
  const isServable = servableIn(snapshot);
  return ranked.flatMap((each) => (each.head.needs != null && isServable(each.head) ? { ...each, needs: each.head.needs } : []));
}

function rank(heads: readonly Head[], maxWaitsMs: MaxWaits): RankedHead[] {
  return heads.map((head) => ({ head, standing: standingOf(head, maxWaitsMs) })).sort(inOrder);
}

function inOrder(a: RankedHead, b: RankedHead): number {
  return compareStanding(a.standing, a.head, b.standing, b.head);
}

/** Heads of each key in their order; the keys in the order of their first heads. */
function groupByKey(ranked: readonly RankedHead[]): Map<ResidencyKey, RankedHead[]> {
  const byKey = new Map<ResidencyKey, RankedHead[]>();
  for (const each of ranked) {
    if (each.head.pool !== 'model' || each.head.key === null) continue;
    const group = byKey.get(each.head.key);
    if (group) group.push(each);
    else byKey.set(each.head.key, [each]);
  }
  return byKey;
}

/**
 * Gives free slots to heads in the order of all of them, whatever they run on, since two may want the same lock: those of `general`, and of each served key;
 * the emptier host first; of a key whose time is over, to plans that go on with it and to what goes first. What a task needs comes with its grant or not at all.
 */
function* grantHeads(
  snapshot: Snapshot,
  ranked: readonly RankedHead[],
  before: Reservation<RankedHead> | null,
  leaving: ReadonlySet<string>,
  ending: ReadonlyMap<string, RankedHead>,
): Iterable<GrantDecision> {
  const sets = openSets(snapshot, leaving);
  let holds = snapshot.holds ?? nothingHeld;
  let reservation = before;
  /** tasks that were given what they need by a grant of this decision, for all of their steps */
  const supplied = new Set<string>();
  const applicants = applicantsIn(snapshot, ranked);
  for (const next of ranked) {
    const { key, pool, continues, needs } = next.head;
    const served = sets.get(pool === 'general' ? null : key);
    if (!served) continue;
    const open = served.filter(({ set }) => continues || isBefore(next, ending.get(at(set.host, key))));
    open.sort((a, b) => b.free.length / b.set.capacity - a.free.length / a.set.capacity || (a.set.host < b.set.host ? -1 : 1));
    const [best] = open;
    const slot = best?.free[0];
    if (best === undefined || slot === undefined) continue;
    if (needs && !supplied.has(next.head.taskId)) {
      if (!mayHave(holds, reservation, next)) continue;
      holds = withTaken(holds, needs);
      supplied.add(next.head.taskId);
      reservation = earlier(
        reservation,
        reservationOf(
          holds,
          applicants.filter(({ head }) => !supplied.has(head.taskId)),
        ),
      );
    }
    best.free.shift();
    yield grantOf(next, best.set, slot, pool === 'general' ? 'first in line' : `first in line for ${key}`);
  }
}

/** What is taken may be what one in front of the one with the reservation lacks now. */
function earlier(one: Reservation<RankedHead> | null, other: Reservation<RankedHead> | null): Reservation<RankedHead> | null {
  return one === null || (other !== null && inOrder(other.of, one.of) < 0) ? other : one;
}

function isBefore(one: RankedHead, other: RankedHead | undefined): boolean {
  return other === undefined || inOrder(one, other) < 0;
}

/** Whether a task may be given what it needs, which is free and kept for nobody before it. */
function mayHave(holds: HoldsState, reservation: Reservation<RankedHead> | null, next: RankedHead): boolean {
  const { needs } = next.head;
  if (!needs) return true;
  const behind = reservation !== null && inOrder(reservation.of, next) < 0;
  return behind ? mayPass(holds, reservation, { needs }) : shortageOf(holds, needs) === null;
}

/** Slots that may be given, by key; of `general` under null. */
function openSets(snapshot: Snapshot, leaving: ReadonlySet<string>): Map<ResidencyKey | null, { readonly set: SlotSet; readonly free: number[] }[]> {
  const sets = new Map<ResidencyKey | null, { readonly set: SlotSet; readonly free: number[] }[]>();
  for (const set of snapshot.slots) {
    if (set.pool === 'model' && (leaving.has(at(set.host, set.key)) || !isServing(snapshot, set))) continue;
    sets.set(set.key, [...(sets.get(set.key) ?? []), { set, free: freeOf(set) }]);
  }
  return sets;
}

function grantOf({ head, standing }: RankedHead, set: SlotSet, slot: number, why: string): GrantDecision {
  const raised = standing.raised ? `, raised from level ${head.level} to ${standing.level} by waiting` : '';
  return { row: head.row, pool: head.pool, host: set.host, hostEpoch: set.hostEpoch, slot, reason: `${why}, slot ${slot}${raised}` };
}

function isServing(snapshot: Snapshot, set: SlotSet): boolean {
  const host = snapshot.hosts.find((candidate) => candidate.host === set.host && candidate.hostEpoch === set.hostEpoch);
  if (!host || host.paused) return false;
  return snapshot.residency.some((row) => row.host === set.host && row.hostEpoch === set.hostEpoch && row.key === set.key && row.state === 'serving');
}

/** Keys that take no more steps, since they are to be unloaded. */
function leavingKeys(snapshot: Snapshot, orders: readonly OrderDecision[]): Set<string> {
  const leaving = new Set<string>();
  for (const order of [...snapshot.openOrders, ...orders]) for (const key of order.unload) leaving.add(at(order.host, key));
  return leaving;
}

/** As many as there are more than what runs: what an engine that drains still runs may stand in slots of any number. */
function freeOf(set: SlotSet): number[] {
  const taken = new Set(set.taken);
  const free = Array.from({ length: set.capacity }, (_, index) => index + 1).filter((slot) => !taken.has(slot));
  return free.slice(0, Math.max(0, set.capacity - taken.size));
}
