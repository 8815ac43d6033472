import type { Needs } from '../contract/holds.js';
import { type HoldsState, shortageOf } from './holds.js';

/** A running task, with what it holds and what it has asked for and waits for. */
export interface RunningTask {
  readonly taskId: string;
  /** 0 to 100, larger is more urgent */
  readonly exact: number;
  /** order of arrival; smaller is earlier */
  readonly place: number;
  readonly holds: Needs;
  /** null: it waits for nothing */
  readonly wants: Needs | null;
}

/** One task waits for another one's lock, or for its share of a pool. */
export interface WaitsFor {
  readonly taskId: string;
  readonly holder: string;
  /** `lock <name>` or `pool <name>` */
  readonly what: string;
}

/** Tasks that wait for each other and would for ever. */
export interface Deadlock {
  /** in order of priority, then arrival */
  readonly members: readonly string[];
  readonly edges: readonly WaitsFor[];
  /** who gives way: the member of lowest priority, among equals the last to arrive */
  readonly victim: string;
}

/**
 * Finds tasks that wait for each other. First everybody who can end is taken to end and to give back what it holds; who is left can only be helped
 * from outside. Among those, the groups in which each one waits for each other one, over some others or directly, are the deadlocks; the rest stands behind them.
 * @param totals amounts of the pools, held or not
 */
export function findDeadlocks(tasks: readonly RunningTask[], totals: Readonly<Record<string, number>>): Deadlock[] {
  const stuck = withoutEnding(tasks, totals);
  const edges = stuck.flatMap((task) => waitsOf(task, stuck));
  return cyclesOf(stuck, edges).map((members) => {
    const ranked = members.toSorted((a, b) => b.exact - a.exact || a.place - b.place);
    const ids = ranked.map(({ taskId }) => taskId);
    return { members: ids, edges: edges.filter(({ taskId, holder }) => ids.includes(taskId) && ids.includes(holder)), victim: ids.at(-1) ?? '' };
  });
}

/** Those who wait for something that nobody who can end is going to give back. */
function withoutEnding(tasks: readonly RunningTask[], totals: Readonly<Record<string, number>>): RunningTask[] {
  let left = [...tasks];
  for (;;) {
    const state = heldBy(left, totals);
    const stuck = left.filter(({ wants, holds }) => wants !== null && shortageOf(state, without(wants, holds)) !== null);
    if (stuck.length === left.length) return stuck;
    left = stuck;
  }
}

function heldBy(tasks: readonly RunningTask[], totals: Readonly<Record<string, number>>): HoldsState {
  return {
    locks: tasks.flatMap(({ holds }) => holds.locks),
    pools: Object.entries(totals).map(([pool, total]) => ({
      pool,
      total,
      free: total - tasks.reduce((sum, { holds }) => sum + (holds.amounts[pool] ?? 0), 0),
    })),
  };
}

/** What is wanted beyond what is held. */
function without(wants: Needs, holds: Needs): Needs {
  return { locks: wants.locks.filter((lock) => !holds.locks.includes(lock)), amounts: wants.amounts };
}

function waitsOf({ taskId, wants, holds }: RunningTask, others: readonly RunningTask[]): WaitsFor[] {
  if (wants === null) return [];
  const { locks, amounts } = without(wants, holds);
  return others.flatMap((other) => {
    if (other.taskId === taskId) return [];
    const edge = (what: string): WaitsFor => ({ taskId, holder: other.taskId, what });
    return [
      ...locks.filter((lock) => other.holds.locks.includes(lock)).map((lock) => edge(`lock ${lock}`)),
      ...Object.keys(amounts)
        .filter((pool) => (other.holds.amounts[pool] ?? 0) > 0)
        .map((pool) => edge(`pool ${pool}`)),
    ];
  });
}

/** Groups of at least two in which everybody reaches everybody over the edges. */
function cyclesOf(tasks: readonly RunningTask[], edges: readonly WaitsFor[]): RunningTask[][] {
  const reach = new Map(tasks.map(({ taskId }) => [taskId, reachableFrom(taskId, edges)]));
  const seen = new Set<string>();
  const groups: RunningTask[][] = [];
  for (const task of tasks) {
    if (seen.has(task.taskId)) continue;
    const group = tasks.filter(({ taskId }) => reach.get(task.taskId)?.has(taskId) && reach.get(taskId)?.has(task.taskId));
    for (const { taskId } of group) seen.add(taskId);
    if (group.length > 1) groups.push(group);
  }
  return groups;
}

function reachableFrom(start: string, edges: readonly WaitsFor[]): ReadonlySet<string> {
  const found = new Set<string>();
  const open = [start];
  for (let next = open.pop(); next !== undefined; next = open.pop())
    for (const { taskId, holder } of edges)
      if (taskId === next && !found.has(holder)) {
        found.add(holder);
        open.push(holder);
      }
  return found;
}
