import { answered, type Sql } from './connect.js';
import type { TaskPosition } from './tasks.js';

/**
 * Removes decisions that are older than so many days, the oldest first; those about a task that has not ended stay, loads that were ordered for it included.
 * May be repeated.
 * @param batch.after where the batch before ended; null: from the oldest
 * @param batch.limit decisions that are looked at
 * @returns `end`: where the next batch begins; null: this was the last
 */
export async function removeOldDecisions(
  sql: Sql,
  { days, after, limit }: { readonly days: number; readonly after: TaskPosition | null; readonly limit: number },
): Promise<{ removed: number; end: TaskPosition | null }> {
  const [row] = await answered(sql<{ looked: number; removed: number; createdAt: string | null; id: string | null }[]>`
    with looked as materialized (
      select id, created_at, task_id, (input_data -> 'first' ->> 'row')::bigint as row from orchestration_decisions
      where created_at < now() - ${days}::integer * interval '1 day' ${after === null ? sql`` : sql`and (created_at, id) > (${after.createdAt}::text::timestamptz, ${after.id}::uuid)`}
      order by created_at, id limit ${limit}
    ), removed as (
      delete from orchestration_decisions where id in (
        select k.id from looked k where not exists (
          select 1 from tasks t where t.id in (k.task_id, (select l.task_id from line l where l.id = k.row)) and t.status in ('queued', 'running')))
      returning 1
    ), last as (select created_at, id from looked order by created_at desc, id desc limit 1)
    select (select count(*)::integer from looked) as looked, (select count(*)::integer from removed) as removed,
      (select to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') from last) as "createdAt", (select id from last) as id`);
  const more = row !== undefined && row.looked === limit && row.createdAt !== null && row.id !== null;
  return { removed: row?.removed ?? 0, end: more ? { createdAt: row.createdAt ?? '', id: row.id ?? '' } : null };
}

/**
 * Removes what tasks that gave way in a deadlock needed afterwards, once it is older than so many days and its attempt is over. May be repeated.
 * @returns how many, at most `limit`
 */
export async function removeOldGivenWays(sql: Sql, { days, limit }: { readonly days: number; readonly limit: number }): Promise<number> {
  const removed = await answered(sql`
    delete from given_ways where (task_id, attempt) in (
      select g.task_id, g.attempt from given_ways g where g.done_at < now() - ${days}::integer * interval '1 day'
        and not exists (select 1 from tasks t where t.id = g.task_id and t.attempt = g.attempt and t.status in ('queued', 'running')) limit ${limit})`);
  return removed.count;
}
