import type { Head } from '../contract/line.js';
import { needOfKey, type ResidencyKey } from '../contract/queues.js';
import { type Change, chooseChange, fitsEver, type Resident, type Room } from './choose-change.js';
import type { ResidencyOrder } from '../contract/residency.js';
import type { Backlog, HeldBack, HostState, KeepDecision, KeyCost, OrderDecision, RefuseDecision, ResidentRow, Snapshot, Soon } from './policy.js';
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

/** What a decision about orders looks at, one key or host at a time. */
export interface Facts {
  /** heads of each key in their order; the keys in the order of their first heads */
  readonly byKey: ReadonlyMap<ResidencyKey, readonly RankedHead[]>;
  /** place of each key's first head among all of them, from 0 */
  readonly turns: ReadonlyMap<ResidencyKey, number>;
  /** hosts that are not paused */
  readonly live: readonly HostState[];
  /** orders not finished yet, at most one per host */
  readonly openOrders: readonly Pick<ResidencyOrder, 'host' | 'load'>[];
  /** those of them that urgent work may have changed */
  readonly revisable: readonly ResidencyOrder[];
  /** live hosts that hold a key or are about to */
  readonly holders: (key: ResidencyKey) => ReadonlySet<string> | undefined;
  readonly costOf: (host: string, key: ResidencyKey) => KeyCost | undefined;
  /** of all hosts; 0: not known */
  readonly longestLoadMs: (key: ResidencyKey) => number;
  readonly isBackingOff: (host: string, key: ResidencyKey) => boolean;
  /** backing off, since its model is being fetched */
  readonly isFetching: (host: string, key: ResidencyKey) => boolean;
  /** what a host holds */
  readonly residents: (host: HostState) => readonly Resident[];
  /** whether any host holds a key, and is not draining it */
  readonly isKept: (key: ResidencyKey) => boolean;
  /** what waits for a key; undefined: not known, or no host can take a copy of it */
  readonly backlog: (key: ResidencyKey) => Backlog | undefined;
  /** slots of a key on all hosts together */
  readonly slotsOf: (key: ResidencyKey) => number;
  /** the sooner first */
  readonly soon: readonly Soon[];
}

export interface Orders {
  readonly orders: OrderDecision[];
  readonly keeps: KeepDecision[];
  readonly refusals: RefuseDecision[];
  readonly heldBack: HeldBack[];
  readonly ending: ReadonlyMap<string, RankedHead>;
}

/** {@link chooseOrdersBy} of what a snapshot shows. */
export function chooseOrders(snapshot: Snapshot, byKey: ReadonlyMap<ResidencyKey, RankedHead[]>): Orders {
  return chooseOrdersBy(factsOf(snapshot, byKey));
}

/**
 * What is to be loaded and unloaded, and of what is not loaded why. `ending`: loaded models, by {@link at}, whose time is over, each with the step that it
 * has to make room for; they take no more than plans that go on with them and steps that go before that one.
 */
export function chooseOrdersBy(facts: Facts): Orders {
  const { byKey } = facts;
  const changing = new Set(facts.openOrders.map(({ host }) => host));
  const orders: OrderDecision[] = [];
  const keeps: KeepDecision[] = [];
  const refusals: RefuseDecision[] = [];
  const heldBack: HeldBack[] = [];
  const ending = new Map<string, RankedHead>();
  /** hosts whose next model is decided: nothing else is loaded there meanwhile, so that small models never keep a large one out */
  const spoken = new Map<string, ResidencyKey>();

  for (const [key, heads] of byKey) {
    const first = heads[0];
    if (!first) continue;
    const kept = isUrgent(first) ? keptInstead(facts, key) : null;
    if (kept !== null && !spoken.has(kept.host)) {
      spoken.set(kept.host, key);
      keeps.push(kept);
      continue;
    }
    const holders = facts.holders(key);
    const copy = holders !== undefined;
    if (copy && !isWorthACopy(facts, key, holders.size)) continue;
    const hosts = facts.live.filter(({ host }) => !holders?.has(host));
    if (hosts.length === 0) {
      if (!copy) heldBack.push({ key, host: null, why: 'no_host', other: null, leftMs: null });
      continue;
    }
    const possible = hosts.filter((host) => host.budgetBytes === null || fitsEver(facts.costOf(host.host, key)?.bytes ?? null, roomOf(host)));
    if (possible.length === 0) {
      if (!copy) refusals.push({ key, reason: `${key} does not fit into the memory of ${hosts.length === 1 ? 'the host' : 'any host'}` });
      continue;
    }
    const having = possible.filter((host) => hasModel(facts, host, key) && !facts.isBackingOff(host.host, key));
    if (copy && having.length === 0 && facts.live.some((host) => hasModel(facts, host, key))) continue; // a copy is not worth fetching the model
    if (having.length === 0 && isSoonBack(facts, key)) {
      if (!copy) heldBack.push({ key, host: null, why: 'no_host', other: null, leftMs: null });
      continue;
    }
    const eligible = having.length > 0 ? having : possible.filter(({ host }) => !facts.isBackingOff(host, key));
    const best = cheapest(
      facts,
      eligible.filter(({ host }) => !changing.has(host) && !spoken.has(host)),
      key,
      first.head.level,
    );
    const revised = !copy && isUrgent(first) && best?.change.kind !== 'load' ? revisedOrder(facts, eligible, key, first) : null;
    if (revised !== null && !spoken.has(revised.host)) {
      spoken.set(revised.host, key);
      orders.push(revised);
      continue;
    }
    if (best === null) {
      if (!copy) heldBack.push(whyNone(facts, key, eligible.length > 0 ? eligible : possible, changing, spoken));
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
  orders.push(...preloads(facts, new Set([...changing, ...spoken.keys()])));
  return { orders, keeps, refusals, heldBack, ending };
}

function isUrgent({ head }: RankedHead): boolean {
  return head.level >= 9;
}

/** An open order that was to unload just what urgent work needs: it is given up while its load has not begun, so that the work waits for no load. */
function keptInstead(facts: Facts, key: ResidencyKey): KeepDecision | null {
  for (const { id, host: name, hostEpoch, load, unload } of facts.revisable) {
    const host = facts.live.find((each) => each.host === name && each.hostEpoch === hostEpoch);
    if (host === undefined || load === null || !unload.includes(key) || isForUrgent(facts, load.key)) continue;
    if (!facts.residents(host).some((resident) => resident.key === key)) continue; // it is gone already
    return { host: name, order: id, key, reason: `urgent work needs ${key}, which was to make room for ${load.key}` };
  }
  return null;
}

function isForUrgent(facts: Facts, key: ResidencyKey): boolean {
  const first = facts.byKey.get(key)?.[0];
  return first !== undefined && isUrgent(first);
}

/**
 * An open order that is carried out for urgent work instead, so that this waits for one load and not for two. What was to be unloaded still is, since nobody
 * knows how far that is. An order for other urgent work stays, and so does one whose load has begun.
 */
function revisedOrder(facts: Facts, hosts: readonly HostState[], key: ResidencyKey, first: RankedHead): OrderDecision | null {
  for (const { id, host: name, hostEpoch, load, unload } of facts.revisable) {
    const host = hosts.find((each) => each.host === name && each.hostEpoch === hostEpoch);
    if (host === undefined || load === null || facts.isBackingOff(name, key)) continue;
    if (isForUrgent(facts, load.key)) continue;
    const staying = facts.residents(host).filter((resident) => !unload.includes(resident.key));
    const wanted = { key, level: first.head.level, turn: facts.turns.get(key) ?? facts.turns.size, bytes: facts.costOf(name, key)?.bytes ?? null };
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

/** What is looked up for every key is prepared, so that a decision takes time linear in what it sees. */
function factsOf(snapshot: Snapshot, byKey: ReadonlyMap<ResidencyKey, RankedHead[]>): Facts {
  const live = snapshot.hosts.filter((host) => !host.paused);
  const liveNames = new Set(live.map(({ host }) => host));
  const holders = new Map<ResidencyKey, Set<string>>();
  const hold = (key: ResidencyKey, host: string) => holders.set(key, (holders.get(key) ?? new Set()).add(host));
  for (const { key, host, state } of snapshot.residency) if (state !== 'draining' && liveNames.has(host)) hold(key, host);
  for (const { host, load } of snapshot.openOrders) if (load) hold(load.key, host);
  const turns = new Map([...byKey.keys()].map((key, turn) => [key, turn]));
  const costs = costsOf(snapshot);
  const backingOff = new Set(snapshot.backingOff.map(({ host, key }) => at(host, key)));
  const made = new Map<string, readonly Resident[]>();
  return {
    byKey,
    turns,
    live,
    openOrders: snapshot.openOrders,
    revisable: snapshot.revisable === undefined ? [] : snapshot.openOrders.filter(({ id }) => snapshot.revisable?.includes(id)),
    holders: (key) => holders.get(key),
    costOf: (host, key) => costs.get(host)?.get(key),
    longestLoadMs: (key) => {
      let longestMs = 0;
      for (const ofHost of costs.values()) if (ofHost.has(key)) longestMs = Math.max(longestMs, expectedLoadMs(ofHost.get(key)));
      return longestMs;
    },
    isBackingOff: (host, key) => backingOff.size > 0 && backingOff.has(at(host, key)),
    isFetching: (host, key) => snapshot.backingOff.some((each) => each.fetching === true && each.host === host && each.key === key),
    residents: (host) => {
      const known =
        made.get(host.host) ??
        snapshot.residency
          .filter((row) => row.host === host.host && row.hostEpoch === host.hostEpoch)
          .map((row) => residentOf(snapshot, byKey, turns, costs.get(row.host)?.get(row.key), row));
      made.set(host.host, known);
      return known;
    },
    isKept: (key) => snapshot.residency.some((row) => row.key === key && row.state !== 'draining'),
    backlog: (key) => snapshot.backlog.find((each) => each.key === key),
    slotsOf: (key) => snapshot.slots.filter((set) => set.key === key).reduce((sum, set) => sum + set.capacity, 0),
    soon: [...snapshot.soon].sort((a, b) => a.inMs - b.inMs),
  };
}

/** By host and key, of which no name is put together: this is looked up for each of them. */
function costsOf(snapshot: Snapshot): Map<string, Map<ResidencyKey, KeyCost>> {
  const costs = new Map<string, Map<ResidencyKey, KeyCost>>();
  for (const each of snapshot.costs) {
    const ofHost = costs.get(each.host);
    if (ofHost) ofHost.set(each.key, each);
    else costs.set(each.host, new Map([[each.key, each]]));
  }
  return costs;
}

/** Whether a host has the model on its disk, as far as is known; on another one it would have to be fetched first. */
function hasModel(facts: Facts, { host }: HostState, key: ResidencyKey): boolean {
  return facts.costOf(host, key) !== undefined;
}

/** Whether no host has the model but one that is paused or was there a moment ago: fetching it to another one would take longer than most restarts. */
function isSoonBack(facts: Facts, key: ResidencyKey): boolean {
  return facts.longestLoadMs(key) > 0 && !facts.live.some((host) => hasModel(facts, host, key));
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
  for (const { key } of facts.soon) {
    if (facts.byKey.has(key) || facts.isKept(key)) continue;
    const having = facts.live.filter((host) => hasModel(facts, host, key));
    for (const host of having.length > 0 || isSoonBack(facts, key) ? having : facts.live) {
      if (taken.has(host.host) || facts.isBackingOff(host.host, key)) continue;
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
  return chooseChange({ key, level, turn, bytes: facts.costOf(host.host, key)?.bytes ?? null }, facts.residents(host), roomOf(host));
}

function roomOf({ modelsMax, roomBytes, budgetBytes }: HostState): Room {
  return { modelsMax, bytes: roomBytes, bytesEver: budgetBytes };
}

function residentOf(
  snapshot: Snapshot,
  byKey: Facts['byKey'],
  turns: Facts['turns'],
  known: KeyCost | undefined,
  { host, key, servedMs, sinceMs }: ResidentRow,
): Resident {
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
  if (facts.live.length <= copies) return false;
  const backlog = facts.backlog(key);
  if (!backlog) return false;
  const serviceMs = backlog.waiting * (backlog.serviceMs ?? unknownServiceMs);
  return serviceMs / Math.max(1, facts.slotsOf(key)) > copyWorthLoads * Math.max(unknownLoadMs, facts.longestLoadMs(key));
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

function whyNone(
  facts: Facts,
  key: ResidencyKey,
  hosts: readonly HostState[],
  changing: ReadonlySet<string>,
  spoken: ReadonlyMap<string, ResidencyKey>,
): HeldBack {
  const free = hosts.find(({ host }) => !changing.has(host) && !spoken.has(host));
  if (free) return { key, host: free.host, why: facts.isFetching(free.host, key) ? 'fetching' : 'backing_off', other: null, leftMs: null };
  const next = hosts.find(({ host }) => spoken.has(host));
  if (next) return { key, host: next.host, why: 'behind', other: spoken.get(next.host) ?? null, leftMs: null };
  const order = facts.openOrders.find((open) => hosts.some(({ host }) => host === open.host));
  return { key, host: order?.host ?? null, why: 'changing', other: order?.load?.key ?? null, leftMs: null };
}

function orderOf(host: HostState, key: ResidencyKey, victims: readonly ResidencyKey[], terms: OrderDecision['terms'], why: string): OrderDecision {
  const model = needOfKey(key);
  if (!model) throw new Error(`this is no residency key: ${key}`);
  const instead = victims.length > 0 ? `, instead of ${victims.join(', ')}` : '';
  return { host: host.host, hostEpoch: host.hostEpoch, unload: victims, load: { key, model }, reason: `${why}${instead}`, terms };
}
