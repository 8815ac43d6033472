import type { Needs } from '../contract/holds.js';

/** A named amount and how much of it nobody holds. */
export interface PoolState {
  readonly pool: string;
  readonly total: number;
  /** may be below 0 where the pool has shrunk under what is held */
  readonly free: number;
}

/** What tasks hold, as a decision sees it. */
export interface HoldsState {
  /** locks that somebody has, or that a running task waits for and gets first */
  readonly locks: readonly string[];
  readonly pools: readonly PoolState[];
}

export const nothingHeld: HoldsState = { locks: [], pools: [] };

/** Why a task cannot have all that it needs now. `never`: a pool is smaller than what is asked of it. */
export type Shortage = { readonly kind: 'lock'; readonly lock: string } | { readonly kind: 'resource' | 'never'; readonly pool: string };

/** Sums of decimal fractions are not exact; what is decided here is checked in exact numbers when it is written. */
const tolerance = 1e-9;

/** All or nothing: the first thing that is not free, null when everything is. */
export function shortageOf({ locks, pools }: HoldsState, needs: Needs): Shortage | null {
  for (const [pool, amount] of Object.entries(needs.amounts))
    if (amount > (find(pools, pool)?.total ?? Number.POSITIVE_INFINITY) + tolerance) return { kind: 'never', pool };
  const lock = needs.locks.find((name) => locks.includes(name));
  if (lock !== undefined) return { kind: 'lock', lock };
  for (const [pool, amount] of Object.entries(needs.amounts)) if (amount > (find(pools, pool)?.free ?? 0) + tolerance) return { kind: 'resource', pool };
  return null;
}

/** What is left when a task has taken what it needs. */
export function withTaken({ locks, pools }: HoldsState, needs: Needs): HoldsState {
  return {
    locks: [...new Set([...locks, ...needs.locks])],
    pools: pools.map((state) => ({ ...state, free: state.free - (needs.amounts[state.pool] ?? 0) })),
  };
}

/** What is left when a task that ends has given back its parts of pools. */
export function withGivenBack({ locks, pools }: HoldsState, amounts: Needs['amounts']): HoldsState {
  return { locks, pools: pools.map((state) => ({ ...state, free: state.free + (amounts[state.pool] ?? 0) })) };
}

/** A waiting step as far as what its task needs matters. */
export interface Applicant {
  readonly needs?: Needs | null;
  /** when it is expected to have all that it lacks, in milliseconds from now; null: nobody can tell */
  readonly startsMs?: number | null;
  /** how long its task is expected to keep what it takes, in milliseconds; null: nobody can tell */
  readonly lastsMs?: number | null;
}

/** What is kept for the earliest task that lacks something, so that later ones never take it away piece by piece. */
export interface Reservation<T = unknown> {
  readonly of: T;
  readonly needs: Needs;
  /** when what it lacks is expected to be free, in milliseconds from now; null: nobody can tell */
  readonly startsMs: number | null;
}

/**
 * The earliest task that lacks something and may have it one day. There is one reservation at a time: with more, small tasks would wait for tasks
 * whose turn is far off.
 * @param waiting in the order in which they are to start
 */
export function reservationOf<T extends Applicant>(holds: HoldsState, waiting: readonly T[]): Reservation<T> | null {
  for (const of of waiting) {
    if (of.needs == null) continue;
    const shortage = shortageOf(holds, of.needs);
    if (shortage !== null && shortage.kind !== 'never') return { of, needs: of.needs, startsMs: of.startsMs ?? null };
  }
  return null;
}

/**
 * Whether a task behind the one with the reservation may take what it needs: when it will have given it back before the other one can start, or when
 * the other one still finds all it needs, of what is free now. Of a pool that the other one lacks nothing may be taken, so that it fills up.
 */
export function mayPass(holds: HoldsState, reservation: Reservation, { needs, lastsMs }: Applicant): boolean {
  if (needs == null) return true;
  if (shortageOf(holds, needs) !== null) return false;
  if (reservation.startsMs !== null && lastsMs != null && lastsMs <= reservation.startsMs) return true;
  if (needs.locks.some((lock) => reservation.needs.locks.includes(lock))) return false;
  return Object.entries(needs.amounts).every(
    ([pool, amount]) =>
      amount === 0 || (find(holds.pools, pool)?.free ?? 0) - amount >= (reservation.needs.amounts[pool] ?? Number.NEGATIVE_INFINITY) - tolerance,
  );
}

function find(pools: readonly PoolState[], name: string): PoolState | undefined {
  return pools.find(({ pool }) => pool === name);
}
