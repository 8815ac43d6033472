import type { ReportRowView } from '../contract/schemas/many.js';
import { answered, type Sql } from './connect.js';
import { matching, type TaskFilter, type TaskPosition } from './tasks.js';

export type { TaskFilter, TaskPosition };

/** What a page begins with: what was created last, or what ended last, where all that fits has ended. */
export type ReportOrder = 'created' | 'ended';

/** One page of a report, the latest first; `end` null on the last. Reads. */
export async function reportPage(
  sql: Sql,
  filter: TaskFilter,
  after: TaskPosition | null,
  { limit, order }: { readonly limit: number; readonly order: ReportOrder },
): Promise<{ rows: ReportRowView[]; end: TaskPosition | null }> {
  const at = order === 'ended' ? sql`t.completed_at` : sql`t.created_at`;
  const rows = await answered(sql<{ row: ReportRowView; atText: string }[]>`
    with picked as materialized (
      select t.id from tasks t
      where ${matching(sql, filter)} ${order === 'ended' ? sql`and t.completed_at is not null` : sql``} ${after !== null ? sql`and (${at}, t.id) < (${after.createdAt}::text::timestamptz, ${after.id}::uuid)` : sql``}
      order by ${at} desc, t.id desc limit ${limit}
    )
    select jsonb_build_object('id', t.id, 'name', t.name, 'template', t.template, 'type', t.type, 'status', t.status, 'priority', t.priority_level, 'user_id', t.user_id, 'attempt', t.attempt,
        'created_at', ${utc(sql, sql`t.created_at`)}, 'started_at', ${utc(sql, sql`t.started_at`)}, 'completed_at', ${utc(sql, sql`t.completed_at`)},
        'waited_seconds', round(extract(epoch from t.started_at - t.created_at), 3), 'ran_seconds', round(extract(epoch from t.completed_at - t.started_at), 3),
        'model_name', t.resource_usage -> 'model_name', 'inference_time_seconds', t.resource_usage -> 'inference_time_seconds', 'memory_used_gb', t.resource_usage -> 'memory_used_gb',
        'prompt_tokens', u.prompt_tokens, 'output_tokens', u.output_tokens, 'error_code', t.error -> 'code', 'error_message', t.error -> 'message') as row,
      to_char(${at} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as "atText"
    from picked join tasks t on t.id = picked.id
      left join lateral (
        select coalesce(sum((e.metrics ->> 'prompt_tokens')::numeric), 0)::bigint as prompt_tokens, coalesce(sum((e.metrics ->> 'output_tokens')::numeric), 0)::bigint as output_tokens
        from task_executions e where e.task_id = t.id
      ) u on true
    order by ${at} desc, t.id desc`);
  const last = rows.at(-1);
  return { rows: rows.map(({ row }) => row), end: rows.length < limit || last === undefined ? null : { createdAt: last.atText, id: last.row.id } };
}

const resultChars = 200;

/** The beginning of what tasks gave: the text of the last step, or else its output as JSON. Reads. */
export async function readResults(sql: Sql, ids: readonly string[]): Promise<Map<string, string>> {
  const rows = await answered(sql<{ id: string; result: string }[]>`
    select id::text, left(case jsonb_typeof(result -> 'text') when 'string' then result ->> 'text' else (result - 'steps')::text end, ${resultChars}) as result
    from tasks where id = any(${ids as string[]}::uuid[]) and result is not null`);
  return new Map(rows.map(({ id, result }) => [id, result]));
}

function utc(sql: Sql, time: ReturnType<Sql>) {
  return sql`to_char(${time} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;
}
