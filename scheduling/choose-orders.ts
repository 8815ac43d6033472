import type { Head } from '../contract/line.js';
import { needOfKey, type ResidencyKey } from '../contract/queues.js';
import { type Change, chooseChange, fitsEver, type Resident, type Room } from './choose-change.js';
import type { HeldBack, HostState, KeyCost, OrderDecision, RefuseDecision, ResidentRow, Snapshot } from './policy.js';
import type { Standing } from './waiting-order.js';

/** How long a finished step keeps its model for the next step of its plan, which has not entered the line yet. */
export const continuationMaxMs = 2_000;

/** Load time of a model that was never loaded here: its bytes at this speed, or this long where its size is not known either. */
const unknownBytesPerMs = 1_000_000;
const unknownLoadMs = 5_000;
/** Service of a step of which nothing was measured. */
const unknownServiceMs = 10_000;
/** A second host loads a model that one serves already when the steps that wait would take this many times its load. */
const copyWorthLoads = 2;

export interface RankedHead {
  readonly head: Head;
  readonly standing: Standing;
}

/** A snapshot with what is looked up for every key, so that a decision takes time linear in what it sees. */
interface Facts {
  readonly snapshot: Snapshot;
  readonly byKey: ReadonlyMap<ResidencyKey, RankedHead[]>;
  /** place of each key's first head among all of them, from 0 */
  readonly turns: ReadonlyMap<ResidencyKey, number>;
  /** hosts that are not paused */
  readonly live: readonly HostState[];
  /** hosts whose residency is being changed */
  readonly changing: ReadonlySet<string>;
  /** by host and key, of which no name is put together: this is looked up for each of them */
  readonly costs: ReadonlyMap<string, ReadonlyMap<ResidencyKey, KeyCost>>;
  /** by {@link at} */
  readonly backingOff: ReadonlySet<string>;
  /** live hosts that hold a key or are about to, by key */
  readonly holders: ReadonlyMap<ResidencyKey, ReadonlySet<string>>;
  /** what a host holds, made when it is first asked for */
  readonly residents: (host: HostState) => readonly Resident[];
}

/**
 * What is to be loaded and unloaded, and of what is not loaded why. `ending`: loaded models, by {@link at}, whose time is over, each with the step that it
 * has to make room for; they take no more than plans that go on with them and steps that go before that one.
 */
export function chooseOrders(snapshot: Snapshot, byKey: ReadonlyMap<ResidencyKey, RankedHead[]>) {
  const facts = factsOf(snapshot, byKey);
  const orders: OrderDecision[] = [];
  const refusals: RefuseDecision[] = [];
  const heldBack: HeldBack[] = [];
  const ending = new Map<string, RankedHead>();
  /** hosts whose next model is decided: nothing else is loaded there meanwhile, so that small models never keep a large one out */
  const spoken = new Map<string, ResidencyKey>();

  for (const [key, heads] of byKey) {
    const first = heads[0];
    if (!first) continue;
    const holders = facts.holders.get(key);
    const copy = holders !== undefined;
    if (copy && !isWorthACopy(facts, key, holders.size)) continue;
    const hosts = facts.live.filter(({ host }) => !holders?.has(host));
    if (hosts.length === 0) {
      if (!copy) heldBack.push({ key, host: null, why: 'no_host', other: null, leftMs: null });
      continue;
    }
    const possible = hosts.filter((host) => host.budgetBytes === null || fitsEver(costOf(facts, host, key)?.bytes ?? null, roomOf(host)));
    if (possible.length === 0) {
      if (!copy) refusals.push({ key, reason: `${key} does not fit into the memory of ${hosts.length === 1 ? 'the host' : 'any host'}` });
      continue;
    }
    const best = cheapest(
      facts,
      possible.filter(({ host }) => !facts.changing.has(host) && !spoken.has(host) && !isBackingOff(facts, host, key)),
      key,
      first.head.level,
    );
    const revised = !copy && isUrgent(first) && best?.change.kind !== 'load' ? revisedOrder(facts, possible, key, first) : null;
    if (revised !== null && !spoken.has(revised.host)) {
      spoken.set(revised.host, key);
      orders.push(revised);
      continue;
    }
    if (best === null) {
      if (!copy) heldBack.push(whyNone(facts, key, hosts, spoken));
      continue;
    }
    const { host, change } = best;
    if (copy && (change.kind !== 'load' || change.terms.some(({ level }) => level !== null))) continue;
    if (change.kind === 'load') {
      spoken.set(host.host, key);
      orders.push(orderOf(host, key, change.victims, change.terms, `the first waiting step that has no model needs ${key}`));
    } else if (change.kind === 'later') {
      spoken.set(host.host, key);
      if (change.ending) for (const victim of change.victims) ending.set(at(host.host, victim), first);
      const goesFirst = change.leftMs === Infinity;
      heldBack.push({ key, host: host.host, why: goesFirst ? 'behind' : 'quantum', other: change.victim, leftMs: goesFirst ? null : change.leftMs });
    } else {
      heldBack.push({ key, host: host.host, why: 'no_room', other: null, leftMs: null });
    }
  }
  orders.push(...preloads(facts, new Set([...facts.changing, ...spoken.keys()])));
  return { orders, refusals, heldBack, ending };
}

function isUrgent({ head }: RankedHead): boolean {
  return head.level >= 9;
}

/**
 * An open order that is carried out for urgent work instead, so that this waits for one load and not for two. What was to be unloaded still is, since nobody
 * knows how far that is. An order for other urgent work stays, and so does one whose load has begun.
 */
function revisedOrder(facts: Facts, hosts: readonly HostState[], key: ResidencyKey, first: RankedHead): OrderDecision | null {
  const { snapshot, byKey, turns } = facts;
  for (const { id, host: name, hostEpoch, load, unload } of snapshot.openOrders) {
    const host = hosts.find((each) => each.host === name && each.hostEpoch === hostEpoch);
    if (host === undefined || load === null || !snapshot.revisable?.includes(id) || isBackingOff(facts, name, key)) continue;
    const waitsForIt = byKey.get(load.key)?.[0];
    if (waitsForIt !== undefined && isUrgent(waitsForIt)) continue;
    const staying = facts.residents(host).filter((resident) => !unload.includes(resident.key));
    const wanted = { key, level: first.head.level, turn: turns.get(key) ?? turns.size, bytes: costOf(facts, host, key)?.bytes ?? null };
    const change = chooseChange(wanted, staying, roomOf(host));
    if (change.kind !== 'load') continue;
    const order = orderOf(host, key, [...unload, ...change.victims], change.terms, `urgent work needs ${key}, and the load of ${load.key} had not begun`);
    return { ...order, revises: id };
  }
  return null;
}

/** The name of a key on a host, for sets and maps. */
export function at(host: string, key: ResidencyKey | null): string {
  return `${host} ${key ?? ''}`;
}

function factsOf(snapshot: Snapshot, byKey: ReadonlyMap<ResidencyKey, RankedHead[]>): Facts {
  const live = snapshot.hosts.filter((host) => !host.paused);
  const liveNames = new Set(live.map(({ host }) => host));
  const holders = new Map<ResidencyKey, Set<string>>();
  const hold = (key: ResidencyKey, host: string) => holders.set(key, (holders.get(key) ?? new Set()).add(host));
  for (const { key, host, state } of snapshot.residency) if (state !== 'draining' && liveNames.has(host)) hold(key, host);
  for (const { host, load } of snapshot.openOrders) if (load) hold(load.key, host);
  const made = new Map<string, readonly Resident[]>();
  const facts: Facts = {
    snapshot,
    byKey,
    turns: new Map([...byKey.keys()].map((key, turn) => [key, turn])),
    live,
    changing: new Set(snapshot.openOrders.map(({ host }) => host)),
    costs: costsOf(snapshot),
    backingOff: new Set(snapshot.backingOff.map(({ host, key }) => at(host, key))),
    holders,
    residents: (host) => {
      const known =
        made.get(host.host) ??
        snapshot.residency.filter((row) => row.host === host.host && row.hostEpoch === host.hostEpoch).map((row) => residentOf(facts, row));
      made.set(host.host, known);
      return known;
    },
  };
  return facts;
}

function costsOf(snapshot: Snapshot): Map<string, Map<ResidencyKey, KeyCost>> {
  const costs = new Map<string, Map<ResidencyKey, KeyCost>>();
  for (const each of snapshot.costs) {
    const ofHost = costs.get(each.host);
    if (ofHost) ofHost.set(each.key, each);
    else costs.set(each.host, new Map([[each.key, each]]));
  }
  return costs;
}

function isBackingOff({ backingOff }: Facts, host: string, key: ResidencyKey): boolean {
  return backingOff.size > 0 && backingOff.has(at(host, key));
}

/** The host on which the change costs least, the first by name of equal ones. */
function cheapest(facts: Facts, hosts: readonly HostState[], key: ResidencyKey, level: number): { host: HostState; change: Change } | null {
  let best: { host: HostState; change: Change } | null = null;
  for (const host of hosts) {
    const change = changeOn(facts, host, key, level);
    const [mine, other] = [cost(change), best ? cost(best.change) : Infinity];
    if (best === null || mine < other || (mine === other && host.host < best.host.host)) best = { host, change };
  }
  return best;
}

/** What will soon be needed is loaded beside what is there, where nothing has to go for it. */
function* preloads(facts: Facts, taken: Set<string>): Iterable<OrderDecision> {
  const { snapshot, byKey } = facts;
  for (const { key } of [...snapshot.soon].sort((a, b) => a.inMs - b.inMs)) {
    if (byKey.has(key) || snapshot.residency.some((row) => row.key === key && row.state !== 'draining')) continue;
    for (const host of facts.live) {
      if (taken.has(host.host) || isBackingOff(facts, host.host, key)) continue;
      const change = changeOn(facts, host, key, 1);
      if (change.kind !== 'load' || change.victims.length > 0) continue;
      taken.add(host.host);
      yield orderOf(host, key, [], [], `a later step of a running plan is going to need ${key}, and it fits beside what is loaded`);
      break;
    }
  }
}

function changeOn(facts: Facts, host: HostState, key: ResidencyKey, level: number): Change {
  const turn = facts.turns.get(key) ?? facts.turns.size;
  return chooseChange({ key, level, turn, bytes: costOf(facts, host, key)?.bytes ?? null }, facts.residents(host), roomOf(host));
}

function roomOf({ modelsMax, roomBytes, budgetBytes }: HostState): Room {
  return { modelsMax, bytes: roomBytes, bytesEver: budgetBytes };
}

function residentOf({ snapshot, byKey, turns, costs }: Facts, { host, key, servedMs, sinceMs }: ResidentRow): Resident {
  const known = costs.get(host)?.get(key);
  const bytes = known?.bytes ?? null;
  const going = snapshot.continuations.find((plan) => plan.host === host && plan.key === key && plan.agoMs < continuationMaxMs);
  const soon = snapshot.soon.filter((need) => need.key === key).map((need) => need.inMs);
  const heads = byKey.get(key);
  return {
    key,
    loadMs: expectedLoadMs(known),
    bytes,
    servedMs,
    busy: snapshot.slots.some((set) => set.host === host && set.key === key && set.taken.length > 0),
    use: Math.min(1, servedMs / Math.max(1, sinceMs)),
    level: heads?.[0]?.head.level ?? going?.level ?? null,
    turn: turns.get(key) ?? turns.size,
    soonMs: soon.length > 0 ? Math.min(...soon) : null,
    planGoesOn: going !== undefined || (heads?.some(({ head }) => head.continues) ?? false),
  };
}

/** Whether what waits for a key is worth loading it on one host more. */
function isWorthACopy(facts: Facts, key: ResidencyKey, copies: number): boolean {
  const { snapshot } = facts;
  if (snapshot.hosts.length <= copies) return false;
  const backlog = snapshot.backlog.find((each) => each.key === key);
  if (!backlog) return false;
  const loads = [...facts.costs.values()].flatMap((ofHost) => ofHost.get(key) ?? []).map((each) => expectedLoadMs(each));
  const slots = snapshot.slots.filter((set) => set.key === key).reduce((sum, set) => sum + set.capacity, 0);
  return (backlog.waiting * (backlog.serviceMs ?? unknownServiceMs)) / Math.max(1, slots) > copyWorthLoads * Math.max(unknownLoadMs, ...loads);
}

/** What a load is expected to take; undefined: nothing is known of the key there. */
export function expectedLoadMs(known: KeyCost | undefined): number {
  return known?.loadMs ?? (known?.bytes == null ? unknownLoadMs : known.bytes / unknownBytesPerMs);
}

/** In which order hosts are asked: what goes at once, and without anybody's loss, first. */
function cost(change: Change): number {
  switch (change.kind) {
    case 'load':
      return change.victims.length === 0 ? 0 : change.terms.every(({ level }) => level === null) ? 1 : 2;
    case 'later':
      return 3 + Math.min(change.leftMs, Number.MAX_SAFE_INTEGER);
    default:
      return Infinity;
  }
}

function whyNone(facts: Facts, key: ResidencyKey, hosts: readonly HostState[], spoken: ReadonlyMap<string, ResidencyKey>): HeldBack {
  const free = hosts.find(({ host }) => !facts.changing.has(host) && !spoken.has(host));
  if (free) return { key, host: free.host, why: 'backing_off', other: null, leftMs: null };
  const next = hosts.find(({ host }) => spoken.has(host));
  if (next) return { key, host: next.host, why: 'behind', other: spoken.get(next.host) ?? null, leftMs: null };
  const order = facts.snapshot.openOrders.find((open) => hosts.some(({ host }) => host === open.host));
  return { key, host: order?.host ?? null, why: 'changing', other: order?.load?.key ?? null, leftMs: null };
}

function orderOf(host: HostState, key: ResidencyKey, victims: readonly ResidencyKey[], terms: OrderDecision['terms'], why: string): OrderDecision {
  const model = needOfKey(key);
  if (!model) throw new Error(`this is no residency key: ${key}`);
  const instead = victims.length > 0 ? `, instead of ${victims.join(', ')}` : '';
  return { host: host.host, hostEpoch: host.hostEpoch, unload: victims, load: { key, model }, reason: `${why}${instead}`, terms };
}

function costOf(facts: Facts, { host }: HostState, key: ResidencyKey): KeyCost | undefined {
  return facts.costs.get(host)?.get(key);
}
