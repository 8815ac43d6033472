import type { FinalStatus } from '../contract/status.js';
import { answered, type Sql } from './connect.js';

/** Which tasks a look back counts. */
export interface EndedFilter {
  /** null: the tasks of everybody */
  readonly owner: string | null;
  /** empty: all */
  readonly templates: readonly string[];
  readonly since: Date;
}

/** Seconds; null when no task has such a time. */
export interface Spread {
  readonly median: number | null;
  readonly p90: number | null;
}

/** What ended of one template in one bucket, or in the whole range. */
export interface EndedCount extends Readonly<Record<FinalStatus, number>> {
  readonly template: string;
  /** when the bucket begins, in seconds since 1970; null: the whole range */
  readonly bucket: number | null;
  readonly ran: Spread;
  readonly waited: Spread;
}

export interface StepCount {
  readonly template: string;
  readonly step: string;
  readonly stepType: string;
  readonly runs: number;
  readonly failed: number;
  readonly ran: Spread;
}

/** Failed tasks of one template whose errors say the same, letter by letter. */
export interface FailureCount {
  readonly template: string;
  readonly step: string | null;
  readonly code: string;
  /** its beginning */
  readonly message: string;
  readonly count: number;
  readonly firstAt: Date;
  readonly lastAt: Date;
  /** the latest first */
  readonly taskIds: string[];
}

/** Tasks that are looked at, at most, the latest: a report stays fast whatever has piled up. */
export const endedMax = 100_000;
export const failuresMax = 10_000;
const stepTasksMax = 5_000;
const messageChars = 500;

const fits = (sql: Sql, { owner, templates, since }: EndedFilter) => sql`
  t.completed_at >= ${since} and (${owner}::text is null or t.user_id = ${owner}) ${templates.length > 0 ? sql`and t.template = any(${templates as string[]})` : sql``}`;

/** What ended by template, and by the buckets of the range unless `bucketSeconds` is null. Reads an index alone. */
export async function countEnded(sql: Sql, filter: EndedFilter, bucketSeconds: number | null): Promise<EndedCount[]> {
  return answered(sql<EndedCount[]>`
    with ended as not materialized (
      select t.template, t.status, floor(date_part('epoch', t.completed_at) / ${bucketSeconds}::double precision) as bucket,
        case when t.status = 'completed' then date_part('epoch', t.completed_at - t.started_at) end as ran, date_part('epoch', t.started_at - t.created_at) as waited
      from tasks t where ${fits(sql, filter)} order by t.completed_at desc limit ${endedMax}
    ), counted as (
      select template, bucket, count(*) filter (where status = 'completed') as completed, count(*) filter (where status = 'failed') as failed, count(*) filter (where status = 'cancelled') as cancelled,
        percentile_cont(array[0.5, 0.9]) within group (order by ran) as ran, percentile_cont(array[0.5, 0.9]) within group (order by waited) as waited
      from ended group by template, bucket
    )
    select template, bucket * ${bucketSeconds}::double precision as bucket, completed::integer, failed::integer, cancelled::integer,
      ${spreadOf(sql, sql`ran`)} as ran, ${spreadOf(sql, sql`waited`)} as waited
    from counted order by template, bucket`);
}

/** Steps of the latest tasks that ended, the slowest first. Reads. */
export async function countSteps(sql: Sql, filter: EndedFilter, limit: number): Promise<StepCount[]> {
  return answered(sql<StepCount[]>`
    with ended as materialized (select t.id, t.template from tasks t where ${fits(sql, filter)} order by t.completed_at desc limit ${stepTasksMax}),
    counted as (
      select t.template, x.step, max(x.step_type) as "stepType", count(*)::integer as runs, (count(*) filter (where x.status = 'failed'))::integer as failed,
        percentile_cont(array[0.5, 0.9]) within group (order by case when x.status = 'completed' then date_part('epoch', x.completed_at - x.started_at) end) as ran
      from ended t join task_executions x on x.task_id = t.id and x.status in ('completed', 'failed') group by t.template, x.step
    )
    select template, step, "stepType", runs, failed, ${spreadOf(sql, sql`ran`)} as ran from counted order by ran[1] desc nulls last, template, step limit ${limit}`);
}

/** Failed tasks by what their errors say; of each text at most `ids` ids. Reads. */
export async function countFailures(sql: Sql, filter: EndedFilter, ids: number): Promise<FailureCount[]> {
  return answered(sql<FailureCount[]>`
    with failures as materialized (
      select t.id, t.template, t.error ->> 'step' as step, coalesce(t.error ->> 'code', '') as code, left(coalesce(t.error ->> 'message', ''), ${messageChars}) as message, t.completed_at as at
      from tasks t where t.status = 'failed' and ${fits(sql, filter)} order by t.completed_at desc limit ${failuresMax}
    )
    select template, step, code, message, count(*)::integer as count, min(at) as "firstAt", max(at) as "lastAt", (array_agg(id::text order by at desc))[1:${ids}] as "taskIds"
    from failures group by template, step, code, message order by max(at) desc`);
}

function spreadOf(sql: Sql, pair: ReturnType<Sql>) {
  return sql`jsonb_build_object('median', round(${pair}[1]::numeric, 3), 'p90', round(${pair}[2]::numeric, 3))`;
}
