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

/** What ended of one template in one bucket. */
export interface EndedCount extends Readonly<Record<FinalStatus, number>> {
  readonly template: string;
  /** when the bucket begins, in seconds since 1970 */
  readonly bucket: number;
  /** seconds that those ran that completed, in no order */
  readonly ran: Float32Array;
  /** seconds that those waited that started, in no order */
  readonly waited: Float32Array;
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

/**
 * What ended by template and by the buckets of the range, with the duration of each task, four bytes each: to sort them here takes a tenth of the time that the
 * database takes for percentiles of the buckets and of the whole. Reads an index alone.
 */
export async function countEnded(sql: Sql, filter: EndedFilter, bucketSeconds: number): Promise<EndedCount[]> {
  const rows = await answered(sql<(Omit<EndedCount, 'ran' | 'waited'> & { readonly ran: Buffer | null; readonly waited: Buffer | null })[]>`
    with ended as not materialized (
      select t.template, t.status, floor(date_part('epoch', t.completed_at) / ${bucketSeconds}::double precision) as bucket,
        case when t.status = 'completed' then date_part('epoch', t.completed_at - t.started_at) end as ran, date_part('epoch', t.started_at - t.created_at) as waited
      from tasks t where ${fits(sql, filter)} order by t.completed_at desc limit ${endedMax}
    )
    select template, bucket * ${bucketSeconds}::double precision as bucket, (count(*) filter (where status = 'completed'))::integer as completed,
      (count(*) filter (where status = 'failed'))::integer as failed, (count(*) filter (where status = 'cancelled'))::integer as cancelled,
      string_agg(float4send(ran::real), ''::bytea) as ran, string_agg(float4send(waited::real), ''::bytea) as waited
    from ended group by template, bucket order by template, bucket`);
  return rows.map((row) => ({ ...row, ran: floatsOf(row.ran), waited: floatsOf(row.waited) }));
}

/** Numbers as PostgreSQL sends them. */
function floatsOf(bytes: Buffer | null): Float32Array {
  if (bytes === null) return new Float32Array();
  const floats = new Float32Array(bytes.length / Float32Array.BYTES_PER_ELEMENT);
  for (let index = 0; index < floats.length; index += 1) floats[index] = bytes.readFloatBE(index * Float32Array.BYTES_PER_ELEMENT);
  return floats;
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
