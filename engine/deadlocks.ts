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

function reasonOf({ edges, victim }: Deadlock): string {
  const waits = edges.map(({ taskId, holder, what }) => `${taskId} waits for ${what} of ${holder}`);
  return `${waits.join(', ')}; ${victim} has the lowest priority, and gives way`;
}
