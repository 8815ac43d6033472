import type { Needs } from '../contract/holds.js';
import { type HoldsState, mayPass, nothingHeld, type PoolState, reservationOf, shortageOf, withGivenBack, withTaken } from './holds.js';
import { type QueuedStep, WaitingQueues } from './waiting-queue.js';
import type { MaxWaits } from './waiting-order.js';

/** A step of a task that has to be given something with its first grant. */
export interface NeedingStep extends QueuedStep {
  readonly index: number;
  /** index of its key; -1 for the general pool */
  readonly key: number;
}

type Amounts = Needs['amounts'];

/** Beyond so many different needs some are taken for a little more than they are, since each start looks at all kinds of needs. */
const exactKindsMax = 256;

/** Tasks that need the same: all of them may have it or none, but for their order. */
interface Kind {
  readonly needs: Needs;
  lacks: boolean;
  /** it lacks what it may have one day, which is kept for it */
  keeps: boolean;
  /** those of a smaller rank may have what they need */
  beforeRank: number;
  /** {@link beforeRank} when the decision began */
  mightBeforeRank: number;
}

/** Steps of such tasks that wait for the same slots. */
interface Group {
  readonly queue: number;
  readonly key: number;
  readonly kind: Kind;
}

/**
 * What the tasks of the line in virtual time hold of resource pools, and the waiting steps whose tasks need some of it: in the line's order, without those
 * that lack something or for whom it is not kept. The rules are those of holds.ts, which the policy follows too. Locks are not among it: who waits for whose
 * lock is known beforehand.
 */
export class SimulatedPools {
  readonly #queues: WaitingQueues;
  readonly #kinds = new Map<string, Kind>();
  readonly #groups: Group[] = [];
  /** by key */
  readonly #ofKey = new Map<number, Group[]>();
  readonly #isServable: (key: number) => boolean;
  #holds: HoldsState;
  #stale = true;

  /** @param isServable whether the model of a step can be had; what nobody can start keeps nothing from others */
  constructor(pools: readonly PoolState[], steps: readonly QueuedStep[], maxWaitsMs: MaxWaits, isServable: (key: number) => boolean) {
    this.#holds = { ...nothingHeld, pools };
    this.#queues = new WaitingQueues(steps, maxWaitsMs);
    this.#isServable = isServable;
  }

  add({ key, index }: NeedingStep, needs: Amounts, nowMs: number): void {
    this.#queues.add(this.#groupOf(key, this.#kindOf(needs)).queue, index, nowMs);
    this.#stale = true;
  }

  take({ index }: NeedingStep): void {
    this.#queues.take(index);
    this.#stale = true;
  }

  /** Begins a decision, with what has waited long enough raised. Who may not have what they need when it begins gets it with a later one. */
  begin(nowMs: number): void {
    this.#queues.advance(nowMs);
    this.#look();
    for (const kind of this.#kinds.values()) kind.mightBeforeRank = kind.beforeRank;
  }

  /** Infinity when none of a key may start */
  firstRank(key: number): number {
    const first = this.#firstGroup(key);
    return first === undefined ? Infinity : this.#rankOf(first);
  }

  /** -1 when none of a key may start */
  first(key: number): number {
    const first = this.#firstGroup(key);
    return first === undefined ? -1 : (this.#queues.firsts[first.queue] as number);
  }

  /** How many of a key wait, whether they may start or not. */
  waitingFor(key: number): number {
    let count = 0;
    for (const { queue } of this.#ofKey.get(key) ?? []) count += this.#queues.sizes[queue] as number;
    return count;
  }

  /** Whether a waiting step does not get what its task needs, though it is free, since it is kept for one before it. */
  isReserved({ index }: NeedingStep, needs: Amounts, nowMs: number): boolean {
    if (this.#stale) this.#look();
    const { lacks, beforeRank } = this.#kindOf(needs);
    return !lacks && this.#queues.rankAt(index, nowMs) >= beforeRank;
  }

  hold(amounts: Amounts): void {
    this.#holds = withTaken(this.#holds, { locks: [], amounts });
    this.#stale = true;
  }

  giveBack(amounts: Amounts): void {
    this.#holds = withGivenBack(this.#holds, amounts);
    this.#stale = true;
  }

  #kindOf(exact: Amounts): Kind {
    const signature = signatureOf(exact);
    if (this.#kinds.has(signature) || this.#kinds.size < exactKindsMax) return this.#kind(signature, exact);
    const amounts = Object.fromEntries(Object.entries(exact).map(([pool, amount]) => [pool, this.#coarse(pool, amount)]));
    return this.#kind(signatureOf(amounts), amounts);
  }

  /** The next power of two, or all there is of the pool where that is less. */
  #coarse(pool: string, amount: number): number {
    const total = this.#holds.pools.find((each) => each.pool === pool)?.total ?? amount;
    return amount > total ? amount : Math.min(total, 2 ** Math.ceil(Math.log2(amount)));
  }

  #kind(signature: string, amounts: Amounts): Kind {
    const known = this.#kinds.get(signature) ?? { needs: { locks: [], amounts }, lacks: false, keeps: false, beforeRank: Infinity, mightBeforeRank: Infinity };
    this.#kinds.set(signature, known);
    return known;
  }

  #groupOf(key: number, kind: Kind): Group {
    const ofKey = this.#ofKey.get(key) ?? [];
    const known = ofKey.find((group) => group.kind === kind);
    if (known !== undefined) return known;
    const group: Group = { queue: this.#queues.open(), key, kind };
    this.#groups.push(group);
    this.#ofKey.set(key, [...ofKey, group]);
    return group;
  }

  #rankOf({ queue }: Group): number {
    return this.#queues.firstRanks[queue] as number;
  }

  #firstGroup(key: number): Group | undefined {
    if (this.#stale) this.#look();
    let best: Group | undefined;
    let bestRank = Infinity;
    for (const group of this.#ofKey.get(key) ?? []) {
      const rank = this.#rankOf(group);
      if (rank < bestRank && rank < group.kind.beforeRank && rank < group.kind.mightBeforeRank) [best, bestRank] = [group, rank];
    }
    return best;
  }

  /** Who may have what they need, as mayHave of the policy. */
  #look(): void {
    this.#stale = false;
    for (const kind of this.#kinds.values()) {
      const shortage = shortageOf(this.#holds, kind.needs);
      kind.lacks = shortage !== null;
      kind.keeps = shortage !== null && shortage.kind !== 'never';
    }
    let first: Group | undefined;
    let rank = Infinity;
    for (const group of this.#groups) {
      const own = this.#rankOf(group);
      if (own < rank && group.kind.keeps && this.#isServable(group.key)) [first, rank] = [group, own];
    }
    const reservation = first === undefined ? null : reservationOf(this.#holds, [first.kind]);
    for (const kind of this.#kinds.values()) {
      if (kind.lacks) kind.beforeRank = 0;
      else kind.beforeRank = reservation === null || mayPass(this.#holds, reservation, kind) ? Infinity : rank;
    }
  }
}

function signatureOf(amounts: Amounts): string {
  return JSON.stringify(Object.entries(amounts).sort(([a], [b]) => (a < b ? -1 : 1)));
}
