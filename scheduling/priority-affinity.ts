import type { Head } from '../contract/line.js';
import { needOfKey, type ResidencyKey } from '../contract/queues.js';
import { type Change, chooseChange, type Contender, type Resident } from './choose-change.js';
import { type HoldsState, mayPass, nothingHeld, type Reservation, reservationOf, shortageOf, withTaken } from './holds.js';
import type { Decision, GrantDecision, HeldBack, HostState, OrderDecision, Policy, RefuseDecision, SlotSet, Snapshot } from './policy.js';
import { compareStanding, defaultMaxWaitsMs, type MaxWaits, type Standing, standingOf } from './waiting-order.js';

/** How long a finished step keeps its model for the next step of its plan, which has not entered the line yet. */
export const continuationMaxMs = 2_000;

/** Load time of a model that was never loaded here: its bytes at this speed, or this long where its size is not known either. */
const unknownBytesPerMs = 1_000_000;
const unknownLoadMs = 5_000;
/** Service of a step of which nothing was measured. */
const unknownServiceMs = 10_000;
/** A second host loads a model that one serves already when the steps that wait would take this many times its load. */
const copyWorthLoads = 2;

export interface AffinitySettings {
  readonly maxWaitsMs: MaxWaits;
}

interface RankedHead {
  readonly head: Head;
  readonly standing: Standing;
}

/**
 * The default policy: steps of loaded models in the line's order for as long as what a load buys lasts, then the model of the first waiting step.
 * @see docs/decisions/0007-residency-policy.md
 */
export function priorityAffinity({ maxWaitsMs }: AffinitySettings = { maxWaitsMs: defaultMaxWaitsMs }): Policy {
  return (snapshot: Snapshot): Decision => {
    const holds = snapshot.holds ?? nothingHeld;
    const lacking = rank(snapshot.lacking ?? [], maxWaitsMs).map((each) => ({ ...each, needs: each.head.needs ?? null }));
    const reservation = reservationOf(holds, lacking);
    const ranked = rank(snapshot.heads, maxWaitsMs).filter((each) => mayHave(holds, reservation, each));
    const byKey = groupByKey(ranked);
    const { orders, refusals, heldBack } = chooseOrders(snapshot, byKey);
    const leaving = leavingKeys(snapshot, orders);
    const ending = new Set(heldBack.filter(({ why, leftMs }) => why === 'quantum' && leftMs === 0).map(({ host, other }) => at(host ?? '', other)));
    return { grants: [...grantHeads(snapshot, ranked, reservation, leaving, ending)], orders, refusals, heldBack };
  };
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
 * the emptier host first; of a key whose time is over, to plans that go on with it. What a task needs comes with its grant or not at all.
 */
function* grantHeads(
  snapshot: Snapshot,
  ranked: readonly RankedHead[],
  reservation: Reservation<RankedHead> | null,
  leaving: ReadonlySet<string>,
  ending: ReadonlySet<string>,
): Iterable<GrantDecision> {
  const sets = openSets(snapshot, leaving);
  let holds = snapshot.holds ?? nothingHeld;
  /** tasks that were given what they need by a grant of this decision, for all of their steps */
  const supplied = new Set<string>();
  for (const next of ranked) {
    const { key, pool, continues, needs } = next.head;
    const open = (sets.get(pool === 'general' ? null : key) ?? []).filter(({ set }) => continues || !ending.has(at(set.host, key)));
    open.sort((a, b) => b.free.length / b.set.capacity - a.free.length / a.set.capacity || (a.set.host < b.set.host ? -1 : 1));
    const [best] = open;
    const slot = best?.free[0];
    if (best === undefined || slot === undefined) continue;
    if (needs && !supplied.has(next.head.taskId)) {
      if (!mayHave(holds, reservation, next)) continue;
      holds = withTaken(holds, needs);
      supplied.add(next.head.taskId);
    }
    best.free.shift();
    yield grantOf(next, best.set, slot, pool === 'general' ? 'first in line' : `first in line for ${key}`);
  }
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

function chooseOrders(snapshot: Snapshot, byKey: ReadonlyMap<ResidencyKey, RankedHead[]>) {
  const orders: OrderDecision[] = [];
  const refusals: RefuseDecision[] = [];
  const heldBack: HeldBack[] = [];
  const live = snapshot.hosts.filter((host) => !host.paused);
  const changing = new Set(snapshot.openOrders.map((order) => order.host));
  /** hosts whose next model is decided: nothing else is loaded there meanwhile, so that small models never keep a large one out */
  const spoken = new Map<string, ResidencyKey>();

  for (const [key, heads] of byKey) {
    const first = heads[0];
    if (!first) continue;
    const holding = snapshot.residency.filter((row) => row.key === key && row.state !== 'draining' && live.some((host) => host.host === row.host));
    const coming = snapshot.openOrders.filter((order) => order.load?.key === key && !holding.some((row) => row.host === order.host));
    const copies = holding.length + coming.length;
    if (copies > 0 && !isWorthACopy(snapshot, key, copies)) continue;
    const copy = copies > 0;
    const options = live
      .filter((host) => !holding.some((row) => row.host === host.host))
      .map((host) => ({ host, change: changeOn(snapshot, byKey, host, key, first.standing.level) }));
    if (options.length === 0) {
      if (!copy) heldBack.push({ key, host: null, why: 'no_host', other: null, leftMs: null });
      continue;
    }
    if (options.every(({ change }) => change.kind === 'never')) {
      if (!copy) refusals.push({ key, reason: `${key} does not fit into the memory of ${options.length === 1 ? 'the host' : 'any host'}` });
      continue;
    }
    const open = options.filter(
      ({ host, change }) => change.kind !== 'never' && !changing.has(host.host) && !spoken.has(host.host) && !isBackingOff(snapshot, host, key),
    );
    const [best] = open.sort((a, b) => cost(a.change) - cost(b.change) || (a.host.host < b.host.host ? -1 : 1));
    if (best === undefined) {
      if (!copy)
        heldBack.push(
          whyNone(
            snapshot,
            key,
            options.map(({ host }) => host),
            changing,
            spoken,
          ),
        );
      continue;
    }
    const { host, change } = best;
    if (copy && (change.kind !== 'load' || change.terms.some(({ level }) => level !== null))) continue;
    if (change.kind === 'load') {
      spoken.set(host.host, key);
      orders.push(orderOf(host, key, change.victims, change.terms, `the first waiting step that has no model needs ${key}`));
    } else if (change.kind === 'later') {
      spoken.set(host.host, key);
      heldBack.push({ key, host: host.host, why: 'quantum', other: change.victim, leftMs: Number.isFinite(change.leftMs) ? change.leftMs : null });
    } else {
      heldBack.push({ key, host: host.host, why: 'no_room', other: null, leftMs: null });
    }
  }
  orders.push(...preloads(snapshot, byKey, live, new Set([...changing, ...spoken.keys()])));
  return { orders, refusals, heldBack };
}

/** What will soon be needed is loaded beside what is there, where nothing has to go for it. */
function* preloads(
  snapshot: Snapshot,
  byKey: ReadonlyMap<ResidencyKey, RankedHead[]>,
  live: readonly HostState[],
  taken: Set<string>,
): Iterable<OrderDecision> {
  for (const { key } of [...snapshot.soon].sort((a, b) => a.inMs - b.inMs)) {
    if (byKey.has(key) || snapshot.residency.some((row) => row.key === key && row.state !== 'draining')) continue;
    for (const host of live) {
      if (taken.has(host.host) || isBackingOff(snapshot, host, key)) continue;
      const change = changeOn(snapshot, byKey, host, key, 1);
      if (change.kind !== 'load' || change.victims.length > 0) continue;
      taken.add(host.host);
      yield orderOf(host, key, [], [], `a later step of a running plan is going to need ${key}, and it fits beside what is loaded`);
      break;
    }
  }
}

function changeOn(snapshot: Snapshot, byKey: ReadonlyMap<ResidencyKey, RankedHead[]>, host: HostState, key: ResidencyKey, level: number): Change {
  const contender: Contender = { key, level, bytes: costOf(snapshot, host, key)?.bytes ?? null };
  return chooseChange(contender, residentsOf(snapshot, byKey, host), { modelsMax: host.modelsMax, bytes: host.roomBytes, bytesEver: host.budgetBytes });
}

function residentsOf(snapshot: Snapshot, byKey: ReadonlyMap<ResidencyKey, RankedHead[]>, host: HostState): Resident[] {
  const turns = [...byKey.keys()];
  return snapshot.residency
    .filter((row) => row.host === host.host && row.hostEpoch === host.hostEpoch)
    .map((row) => {
      const known = costOf(snapshot, host, row.key);
      const bytes = known?.bytes ?? null;
      const going = snapshot.continuations.find((plan) => plan.host === host.host && plan.key === row.key && plan.agoMs < continuationMaxMs);
      const soon = snapshot.soon.filter((need) => need.key === row.key).map((need) => need.inMs);
      return {
        key: row.key,
        loadMs: known?.loadMs ?? (bytes === null ? unknownLoadMs : bytes / unknownBytesPerMs),
        bytes,
        servedMs: row.servedMs,
        level: byKey.get(row.key)?.[0]?.standing.level ?? going?.level ?? null,
        turn: byKey.has(row.key) ? turns.indexOf(row.key) : turns.length,
        soonMs: soon.length > 0 ? Math.min(...soon) : null,
        planGoesOn: going !== undefined || (byKey.get(row.key)?.some(({ head }) => head.continues) ?? false),
      };
    });
}

/** Whether what waits for a key is worth loading it on one host more. */
function isWorthACopy(snapshot: Snapshot, key: ResidencyKey, copies: number): boolean {
  if (snapshot.hosts.length <= copies) return false;
  const backlog = snapshot.backlog.find((each) => each.key === key);
  if (!backlog) return false;
  const loads = snapshot.costs
    .filter((cost) => cost.key === key)
    .map((cost) => cost.loadMs ?? (cost.bytes === null ? unknownLoadMs : cost.bytes / unknownBytesPerMs));
  const slots = snapshot.slots.filter((set) => set.key === key).reduce((sum, set) => sum + set.capacity, 0);
  return (backlog.waiting * (backlog.serviceMs ?? unknownServiceMs)) / Math.max(1, slots) > copyWorthLoads * Math.max(unknownLoadMs, ...loads);
}

/** In which order hosts are asked: what goes at once, and without anybody's loss, first. */
function cost(change: Change): number {
  switch (change.kind) {
    case 'load':
      return change.victims.length === 0 ? 0 : change.terms.every(({ level }) => level === null) ? 1 : 2;
    case 'later':
      return 3 + change.leftMs;
    default:
      return Infinity;
  }
}

function whyNone(
  snapshot: Snapshot,
  key: ResidencyKey,
  hosts: readonly HostState[],
  changing: ReadonlySet<string>,
  spoken: ReadonlyMap<string, ResidencyKey>,
): HeldBack {
  const free = hosts.find((host) => !changing.has(host.host) && !spoken.has(host.host));
  if (free) return { key, host: free.host, why: 'backing_off', other: null, leftMs: null };
  const next = hosts.find((host) => spoken.has(host.host));
  if (next) return { key, host: next.host, why: 'behind', other: spoken.get(next.host) ?? null, leftMs: null };
  const order = snapshot.openOrders.find((open) => hosts.some((host) => host.host === open.host));
  return { key, host: order?.host ?? null, why: 'changing', other: order?.load?.key ?? null, leftMs: null };
}

function orderOf(host: HostState, key: ResidencyKey, victims: readonly ResidencyKey[], terms: OrderDecision['terms'], why: string): OrderDecision {
  const model = needOfKey(key);
  if (!model) throw new Error(`this is no residency key: ${key}`);
  const instead = victims.length > 0 ? `, instead of ${victims.join(', ')}` : '';
  return { host: host.host, hostEpoch: host.hostEpoch, unload: victims, load: { key, model }, reason: `${why}${instead}`, terms };
}

function costOf(snapshot: Snapshot, host: HostState, key: ResidencyKey) {
  return snapshot.costs.find((cost) => cost.host === host.host && cost.key === key);
}

function isBackingOff(snapshot: Snapshot, host: HostState, key: ResidencyKey): boolean {
  return snapshot.backingOff.some((pause) => pause.host === host.host && pause.key === key);
}

function freeOf(set: SlotSet): number[] {
  const taken = new Set(set.taken);
  return Array.from({ length: set.capacity }, (_, index) => index + 1).filter((slot) => !taken.has(slot));
}

function at(host: string, key: ResidencyKey | null): string {
  return `${host} ${key ?? ''}`;
}
