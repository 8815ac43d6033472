import type { Logger } from 'pino';
import { giveWay, readWaits, settleGivenWays } from '../db/holds.js';
import type { Sql } from '../db/connect.js';
import { type Deadlock, findDeadlocks } from '../scheduling/wait-for.js';

/** The pause before another look while tasks give way. */
const settlingPauseMs = 250;

/**
 * One run of the loop that looks for running tasks which wait for each other's locks: in each circle the task of lowest priority gives way, and is queued
 * again when its steps have stopped. While nobody waits, a run is one query.
 */
export function createDeadlockWatch({ sql, log }: { readonly sql: Sql; readonly log: Logger }): () => Promise<{ againInMs: number } | undefined> {
  return async () => {
    const waits = await readWaits(sql);
    if (waits === null) return undefined;
    let marked = 0;
    for (const deadlock of findDeadlocks(waits.tasks, waits.totals)) {
      if (!(await giveWay(sql, deadlock, reasonOf(deadlock)))) continue;
      marked += 1;
      log.warn({ task_id: deadlock.victim, tasks: deadlock.members, waits: deadlock.edges }, 'tasks wait for each other: one gives way');
    }
    if (waits.givingWay + marked === 0) return undefined;
    await settleGivenWays(sql);
    return { againInMs: settlingPauseMs };
  };
}

/** A sentence for the owner of the one that gives way, who may not know the ids of the others. */
function reasonOf({ members, edges, victim }: Deadlock): string {
  const own = edges.filter(({ taskId }) => taskId === victim).map(({ what }) => what);
  const others = edges.filter(({ taskId }) => taskId !== victim).map(({ what }) => what);
  return `${members.length} running tasks wait for each other: this one for ${own.join(' and ')}, others for ${[...new Set(others)].join(' and ')}; it has the lowest priority, and gives way`;
}
