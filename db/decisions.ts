import { type DecisionKind, decisionKinds } from '../contract/schemas/decision.js';
import type { Head } from '../contract/line.js';
import type { ResidencyKey } from '../contract/queues.js';
import type { AffinityTerms } from '../scheduling/choose-change.js';
import type { Freedom, FreedomOf } from '../scheduling/learned-order.js';
import type { DecidedBy, Snapshot } from '../scheduling/policy.js';
import type { MaxWaits } from '../scheduling/waiting-order.js';
import { answered, type Sql } from './connect.js';
import type { Transaction } from './residency.js';
import { storedJson } from './stored-json.js';
import type { TaskPosition } from './tasks.js';

/** Steps of each level that a learned agent sees of each model with a free slot; a policy alone needs no more than there are free slots. */
const seenByAgent = 100;

/**
 * What an agent has to know beside what any policy does: more of each level, since it may put another one first, and how far it may move each task. A task that a
 * person placed beside another one stays, and so does every task of the same priority, of which one is its neighbour. Of the rest, those to which nobody gave a
 * priority are free. Reads.
 */
export async function readForAgent(tx: Transaction, snapshot: Snapshot, maxWaitsMs: MaxWaits): Promise<{ snapshot: Snapshot; freedomOf: FreedomOf }> {
  const { heads, lacking = [], slots } = snapshot;
  const free: Record<string, number> = {};
  for (const { key, capacity, taken } of slots) free[key ?? ''] = (free[key ?? ''] ?? 0) + Math.max(0, capacity - taken.length);
  for (const key of Object.keys(free)) if (free[key] !== 0) free[key] = Math.max(seenByAgent, free[key] ?? 0);
  const rows = await answered(tx<(Omit<Head, 'needs'> & { freedom: Freedom })[]>`
    with ids as (
      select unnest(${[...heads, ...lacking].map(({ row }) => row)}::bigint[]) as id
      union select h.id from line_heads(clock_timestamp(), ${storedJson(tx, free)}, ${maxWaitsMs as number[]}::double precision[]) h (id) where not line_paused('general', null)
    ), placed as materialized (select distinct priority from tasks where status in ('queued', 'running') and stands_since is not null)
    select l.id::text as row, l.task_id as "taskId", l.pool, l.key, l.level, l.exact, (row_number() over (order by l.pos, l.id))::integer as place, l.continues,
      greatest(0, floor(extract(epoch from clock_timestamp() - l.entered_at) * 1000))::double precision as "waitedMs",
      case when t.priority in (select priority from placed) then 'none' when t.priority_given then 'level' else 'any' end as freedom
    from ids join line l on l.id = ids.id and l.state = 'waiting' join tasks t on t.id = l.task_id`);
  const found = new Map<string, Head>(rows.map((row) => [row.row, row]));
  // One that went meanwhile is no head any more: a value for it would be held against the agent.
  const again = (of: readonly Head[]) =>
    of.flatMap((head): Head[] => {
      const place = found.get(head.row)?.place;
      return place === undefined ? [] : [{ ...head, place }];
    });
  const known = new Set([...heads, ...lacking].map(({ row }) => row));
  const freedoms = new Map(rows.map(({ taskId, freedom }) => [taskId, freedom]));
  return {
    snapshot: { ...snapshot, heads: [...again(heads), ...[...found.values()].filter(({ row }) => !known.has(row))], lacking: again(lacking) },
    freedomOf: (taskId) => freedoms.get(taskId) ?? 'none',
  };
}

/** Notes with the decisions of this transaction who made them. May be repeated. */
export async function noteDecidedBy(tx: Transaction, { algorithm, version, instead }: DecidedBy): Promise<void> {
  await answered(tx`
    update orchestration_decisions set model_version = ${version}, output_data = output_data || ${storedJson(tx, { algorithm, ...(instead === null ? {} : { instead }) })}
    where decision_type in ('grant', 'residency', 'refusal') and created_at = now() and xmin = pg_current_xact_id()::xid`);
}

export interface DecisionFilter {
  /** whose tasks are seen; null: everybody's */
  readonly owner: string | null;
  /** what concerns this task: its grants, the loads that were ordered for it, a deadlock in which it gave way; null: any */
  readonly taskId: string | null;
  /** names of models; values of one filter are alternatives, an empty one lets everything pass */
  readonly models: readonly string[];
  readonly hosts: readonly string[];
  readonly kinds: readonly DecisionKind[];
}

/** A decision as it was stored, and whose step it was about; of other owners' tasks that is null. */
export interface DecisionRow {
  readonly id: string;
  readonly createdAt: Date;
  readonly kind: DecisionKind;
  readonly reason: string;
  readonly taskId: string | null;
  readonly step: string | null;
  readonly key: ResidencyKey | null;
  readonly pull: string | null;
  readonly unload: readonly ResidencyKey[] | null;
  readonly host: string | null;
  readonly level: number | null;
  readonly exact: number | null;
  readonly waitedMs: number | null;
  readonly terms: readonly AffinityTerms[] | null;
  readonly algorithm: 'reinforcement_learning' | 'priority_affinity' | null;
  readonly instead: string | null;
  readonly modelVersion: string | null;
  /** who asked for it; null: nobody */
  readonly requestedBy: string | null;
  readonly tookMs: number | null;
}

/** Rows that one page with filters looks at, so that no question takes long, however rare what it asks for. */
const lookedAtMax = 5_000;

/**
 * Decisions, newest first. Reads.
 * @returns `end`: where the next page begins; null: this is the last
 */
export async function listDecisions(
  sql: Sql,
  filter: DecisionFilter,
  page: { readonly after: TaskPosition | null; readonly limit: number },
): Promise<{ rows: DecisionRow[]; end: TaskPosition | null }> {
  const { owner, taskId, models, hosts, limit } = { ...filter, ...page };
  const kinds = filter.kinds.length > 0 ? filter.kinds : decisionKinds;
  const chooses = owner !== null || models.length > 0 || hosts.length > 0;
  const window = taskId !== null || !chooses ? limit + 1 : lookedAtMax;
  const older = page.after === null ? sql`` : sql`and (d.created_at, d.id) < (${page.after.createdAt}::text::timestamptz, ${page.after.id}::uuid)`;
  const source =
    taskId === null
      ? sql`
        select d.* from unnest(${kinds as string[]}::text[]) k (kind) cross join lateral (
          select * from orchestration_decisions d where d.decision_type = k.kind ${older} order by d.created_at desc, d.id desc limit ${window}) d`
      : sql`
        select d.* from orchestration_decisions d where d.task_id = ${taskId} and d.decision_type = any(${kinds as string[]}) ${older}
        union all
        select d.* from line l join orchestration_decisions d on d.decision_type = 'residency' and d.input_data -> 'first' ->> 'row' = l.id::text
        where l.task_id = ${taskId} and 'residency' = any(${kinds as string[]}) ${older}`;
  const theirs = taskId === null ? sql`` : sql`and mine`;
  const rows = await answered(sql<(DecisionRow & { createdText: string; fits: boolean })[]>`
    with seen as materialized (
      select * from (${source}) d order by created_at desc, id desc limit ${window}
    ), told as (
      select d.id, d.created_at, d.decision_type as kind, d.input_data as i, d.output_data as o, d.execution_time_ms, d.model_version, t.id as task, l.step,
        t.id is null or ${owner}::text is null or t.user_id = ${owner} as mine, d.task_id is not null as own,
        coalesce(d.input_data ->> 'key', d.output_data -> 'load' ->> 'key') as key, coalesce(d.output_data ->> 'host', d.input_data ->> 'host') as host
      from seen d left join line l on l.id = coalesce(d.input_data ->> 'row', d.input_data -> 'first' ->> 'row')::bigint left join tasks t on t.id = coalesce(d.task_id, l.task_id)
    )
    select id, created_at as "createdAt", to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as "createdText", kind, coalesce(o ->> 'reason', '') as reason,
      case when mine then task end as "taskId", case when mine then coalesce(i ->> 'step', step) end as step, key, o ->> 'pull' as pull, o -> 'unload' as unload, host,
      coalesce(i ->> 'level', i -> 'first' ->> 'level')::integer as level, case when mine then coalesce(i ->> 'exact', i -> 'first' ->> 'exact')::integer end as exact,
      case when mine then coalesce(i ->> 'waited_ms', i -> 'first' ->> 'waited_ms')::double precision end as "waitedMs", i -> 'terms' as terms,
      o ->> 'algorithm' as algorithm, o ->> 'instead' as instead, model_version as "modelVersion", i ->> 'requested_by' as "requestedBy", execution_time_ms as "tookMs",
      (mine or not own) ${theirs} and (cardinality(${models as string[]}::text[]) = 0 or key_model(key) = any(${models as string[]}) or o ->> 'pull' = any(${models as string[]})
          or exists (select 1 from jsonb_array_elements_text(o -> 'unload') u where key_model(u) = any(${models as string[]})))
        and (cardinality(${hosts as string[]}::text[]) = 0 or host = any(${hosts as string[]})) as fits
    from told order by created_at desc, id desc`);
  const fitting = rows.filter(({ fits }) => fits);
  const shown = fitting.slice(0, limit);
  const last = fitting.length > limit ? shown.at(-1) : rows.length === window ? rows.at(-1) : undefined;
  return { rows: shown, end: last === undefined ? null : { createdAt: last.createdText, id: last.id } };
}
