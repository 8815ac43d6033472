import { readdir } from 'node:fs/promises';
import type { Sql } from '../../db/connect.js';
import { checkInvariants } from '../../db/invariants.js';

/**
 * What an installation that has nothing to do still holds, and every broken invariant.
 * @returns a sentence for each; empty when all work was ended in good order
 */
export async function leftBehind(sql: Sql, workspacesRoot: string): Promise<string[]> {
  const rows = await sql<{ left: string }[]>`
    select format('task %s is %s (%s)', id, status, error ->> 'message') as left from tasks where status not in ('completed', 'failed', 'cancelled')
    union all
    select format('row %s of task %s, step %s, is %s', id, task_id, step, state) from line where state in ('waiting', 'granted', 'running')
    union all
    select format('%s is held by task %s', name, task_id) from holds
    union all
    select format('%s of %s is held by task %s', amount, pool, task_id) from allocations
    union all
    select format('%s is waited for by task %s', name, task_id) from lock_wishes
    union all
    select format('outbox entry %s (%s) is not delivered: %s', id, kind, last_error) from outbox
    union all
    select format('step %s of task %s, attempt %s, is committed %s times', step, task_id, attempt, count(*))
    from task_executions where status = 'completed' group by task_id, attempt, step having count(*) > 1`;
  const workspaces = await readdir(workspacesRoot);
  return [...rows.map(({ left }) => left), ...workspaces.map((name) => `the workspace of ${name} is there`), ...(await checkInvariants(sql))];
}
