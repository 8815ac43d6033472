/** What a task has to have before its first step starts, and keeps until its end. */
export interface Needs {
  /** names of locks, each once */
  readonly locks: readonly string[];
  /** amount by resource pool, larger than 0 */
  readonly amounts: Readonly<Record<string, number>>;
}

/** Pools that every machine tells of by itself: cores, gibibytes of memory and disk, and the number of graphics cards. */
export const machinePools = ['cpu', 'memory', 'disk', 'gpu'] as const;

/** How locks are called; those with a colon, such as `agent:<name>`, are the product's own. */
export const lockForm = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;
/** How resource pools are called. */
export const poolForm = /^[a-z][a-z0-9_-]{0,49}$/;

/** Locks that one task may have. */
export const locksMax = 20;
/** Resource pools that one task may name. */
export const poolsMax = 20;
/** The largest amount of a pool. */
export const amountMax = 1_000_000_000;

/** Payload of the channel `cancel` for a task that gives way: its steps stop and enter the line again. The id alone cancels. */
export const givesWaySuffix = ' gives way';
