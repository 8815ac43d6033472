import type { Logger } from 'pino';
import type { Sql } from '../db/connect.js';
import { removeOldDecisions, removeOldGivenWays } from '../db/retention.js';
import type { TaskPosition } from '../db/tasks.js';

/** Rows looked at in one statement, so that none holds its locks for long. */
const batchSize = 1_000;
/** Between two batches, for everybody else. */
const pauseMs = 100;

export interface PruneDeps {
  readonly sql: Sql;
  /** how long decisions are kept */
  readonly decisionsDays: number;
  readonly log: Logger;
}

/**
 * One run of the retention loop: a batch of what is older than it is to be kept. It takes no lock of the line, so it never holds up a decision; several
 * engines may run it, since what one has removed is not there for the other.
 * @returns a run that asks for the next one soon while there is more
 */
export function createPruner({ sql, decisionsDays: days, log }: PruneDeps): () => Promise<{ readonly againInMs: number } | undefined> {
  let after: TaskPosition | null = null;
  let removed = 0;
  return async () => {
    const decisions = await removeOldDecisions(sql, { days, after, limit: batchSize });
    after = decisions.end;
    const givenWays = await removeOldGivenWays(sql, { days, limit: batchSize });
    removed += decisions.removed + givenWays;
    if (after !== null || givenWays === batchSize) return { againInMs: pauseMs };
    if (removed > 0) log.info({ removed, older_than_days: days }, 'old decisions are removed');
    removed = 0;
    return undefined;
  };
}
