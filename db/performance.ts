import { answered, type Sql } from './connect.js';

/** Means of a stretch of time; null: there is nothing to take a mean of. */
export interface PerformanceSeen {
  readonly completed: number;
  /** seconds */
  readonly executionSeconds: number | null;
  readonly completionSeconds: number | null;
}

/** How long the tasks took that completed since a moment. Reads. */
export async function readTaskTimes(sql: Sql, since: Date): Promise<PerformanceSeen> {
  const [row] = await answered(sql<PerformanceSeen[]>`
    select count(*)::integer as completed, avg(extract(epoch from completed_at - started_at))::float8 as "executionSeconds",
      avg(extract(epoch from completed_at - created_at))::float8 as "completionSeconds"
    from tasks where completed_at >= ${since} and status = 'completed'`);
  if (row === undefined) throw new Error('PostgreSQL returned no row');
  return row;
}

/** Mean of each collected metric since a moment, by name and subject (empty: the whole). Reads. */
export async function readMetricMeans(sql: Sql, since: Date): Promise<{ name: string; subject: string; mean: number }[]> {
  return answered(sql<{ name: string; subject: string; mean: number }[]>`
    select name, coalesce((select string_agg(value, ' ' order by key) from jsonb_each_text(labels)), '') as subject, avg(value)::float8 as mean
    from performance_metrics where at >= ${since} group by 1, 2 order by 1, 2`);
}

/** Adds a value of a metric, as of now. */
export async function recordMetric(sql: Sql, name: string, value: number): Promise<void> {
  await answered(sql`insert into performance_metrics (name, value, at) values (${name}, ${value}, clock_timestamp())`);
}

/** Mean of a metric since a moment; 0 when there is no value. Reads. */
export async function averageMetric(sql: Sql, name: string, since: Date): Promise<number> {
  const [row] = await answered(sql<{ mean: number }[]>`
    select coalesce(avg(value), 0)::float8 as mean from performance_metrics where name = ${name} and at >= ${since}`);
  return row?.mean ?? 0;
}

/** Minutes of a month in which a part worked, of those since its first probe ever. */
export interface AvailabilitySeen {
  readonly part: string;
  /** `2026-01` */
  readonly month: string;
  readonly minutes: number;
  readonly ok: number;
}

/** The last twelve months of each part, the latest first. The minute that is not over yet does not count. Reads. */
export async function readAvailability(sql: Sql): Promise<AvailabilitySeen[]> {
  return answered(sql<AvailabilitySeen[]>`
    with parts as (select part, min(minute) as first from availability_probes group by part), ends as (select date_trunc('minute', now()) as now),
    months as (
      select part, first, m at time zone 'UTC' as month, (m + interval '1 month') at time zone 'UTC' as following
      from parts, generate_series(greatest(date_trunc('month', first at time zone 'UTC'), date_trunc('month', now() at time zone 'UTC') - interval '11 months'),
        now() at time zone 'UTC', interval '1 month') m)
    select part, to_char(month at time zone 'UTC', 'YYYY-MM') as month,
      greatest(0, extract(epoch from least(following, ends.now) - greatest(month, first)) / 60)::integer as minutes,
      (select count(*) from availability_probes p where p.part = m.part and p.ok and p.minute >= month and p.minute < least(following, ends.now))::integer as ok
    from months m, ends order by month desc, part`);
}
