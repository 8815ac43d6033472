import type { FailureInfo } from '../contract/failure.js';
import type { JsonObject } from '../contract/json.js';
import type { FirstGrant } from '../contract/line.js';
import type { Plan, PlanStep } from '../contract/plan.js';
import { residencyKey } from '../contract/queues.js';
import type { StatusDetail, TaskStatus } from '../contract/status.js';
import { levelOfExact } from '../contract/priority.js';
import { answered, type Sql } from './connect.js';
import { type GrantRow, grantOf } from './line.js';
import { storedJson } from './stored-json.js';

/** A task to store; everything about it is decided already. */
export interface NewTask {
  readonly id: string;
  readonly name: string;
  readonly description: string | null;
  /** 0 to 100 */
  readonly exact: number;
  /** false: it is the default, and a learned agent may choose another one */
  readonly priorityGiven: boolean;
  readonly userId: string;
  readonly parameters: JsonObject;
  readonly plan: Plan;
  /** retry, limits and resource requirements as the caller asked for them */
  readonly request: JsonObject;
  readonly metadata: JsonObject;
  readonly agentAssigned: string | null;
  readonly models: TaskRow['models'];
  /** the task whose input this one repeats, and the first of the chain */
  readonly lineage: { readonly replayedFrom: string; readonly originId: string } | null;
  /** without duplicates */
  readonly dependsOn: readonly string[];
  /** tasks that may be queued */
  readonly queueMax: number;
  readonly idempotency: { readonly key: string; readonly bodyHash: Buffer } | null;
}

export type InsertedTask =
  /** the task as it was stored, and the grant of its first step where it may run at once */
  | { readonly outcome: 'created'; readonly row: TaskRow; readonly first: FirstGrant | null }
  /** these ids are no tasks of the owner */
  | { readonly outcome: 'unknown_dependencies'; readonly ids: readonly string[] }
  /** so many tasks are queued that no more are taken; nothing was stored */
  | { readonly outcome: 'queue_full'; readonly queued: number }
  /** it asks for more than there is of these pools; `total` null: there is no such pool. Nothing was stored */
  | { readonly outcome: 'too_large'; readonly amounts: readonly LargeAmount[] }
  /** another request took the idempotency key first; nothing was stored */
  | { readonly outcome: 'key_taken' };

export interface LargeAmount {
  readonly pool: string;
  readonly amount: number;
  readonly total: number | null;
}

/** A task as it is read for an answer. */
export interface TaskRow {
  readonly id: string;
  readonly status: TaskStatus;
  readonly level: number;
  readonly createdAt: Date;
  readonly startedAt: Date | null;
  readonly completedAt: Date | null;
  readonly template: string;
  readonly parameters: JsonObject;
  readonly result: JsonObject | null;
  readonly resourceUsage: JsonObject | null;
  readonly name: string;
  readonly type: string;
  readonly dependsOn: string[];
  readonly blockedBy: string[];
  readonly statusDetail: StatusDetail | null;
  readonly attempt: number;
  readonly error: FailureInfo | null;
  readonly queuePosition: number | null;
  readonly userId: string;
  readonly metadata: JsonObject;
  /** what the steps of the plan need, each once, in the order of their first use */
  readonly models: { name: string; alias: string | null; digest: string | null }[];
  readonly templateHash: string;
  readonly replayedFrom: string | null;
  readonly originId: string | null;
}

export interface TaskFilter {
  /** null: the tasks of everybody */
  readonly owner: string | null;
  readonly statuses: readonly StatusFilter[];
  readonly templates: readonly string[];
  readonly levels: readonly number[];
  readonly types: readonly string[];
  readonly userIds: readonly string[];
  /** a text that the name contains, upper and lower case alike; null: any name */
  readonly name: string | null;
  readonly createdAfter: Date | null;
  readonly createdBefore: Date | null;
  /** only what has ended within them; default null */
  readonly endedAfter?: Date | null;
  readonly endedBefore?: Date | null;
}

/** A status, or one of the two halves of `queued`: not taken up by a run yet, or waiting in the line. */
export const statusFilters = ['queued', 'running', 'completed', 'failed', 'cancelled', 'created', 'waiting'] as const;
export type StatusFilter = (typeof statusFilters)[number];

/** Where a page ends: `createdAt` is ISO 8601 in UTC, exact to the microsecond. */
export interface TaskPosition {
  readonly createdAt: string;
  readonly id: string;
}

/** How long the outbox leaves the start of a new task to whoever created it. */
const startGrace = '2 seconds';

/**
 * Stores a task with its dependencies, its outbox row, its idempotency key and its first event, in one transaction and one round trip.
 * May be repeated with the same id, since the answer to a commit can get lost: the second time finds the first one's rows.
 * @param options.owner whose tasks may be named as dependencies; null: anybody's
 * @param options.first the step that enters the line at once, where it can be granted at once; see `soleFirstStep`
 * @param options.starter who starts its Temporal workflow: the creator, with the outbox as its safety, or the outbox at once
 */
export async function insertTask(
  sql: Sql,
  task: NewTask,
  options: { readonly owner: string | null; readonly starter: 'creator' | 'outbox'; readonly first?: PlanStep | null },
): Promise<InsertedTask> {
  const { first = null } = options;
  const entering = first && { first: { step: first.id, pool: first.pool, key: first.model ? residencyKey(first.model) : null } };
  const [made] = await answered(sql<{ made: Made }[]>`
    select task_create(${storedJson(sql, { ...storedTask(task), queue_max: task.queueMax, ...entering })}, ${task.dependsOn as string[]}::uuid[], ${options.owner}, ${task.idempotency?.key ?? null},
      ${task.idempotency?.bodyHash ?? null}, ${options.starter === 'creator' ? startGrace : '0'}::interval) as made`);
  if (made === undefined) throw new Error('PostgreSQL returned no row');
  return insertedOf(task, made.made, first);
}

/** Time of the statement that stores a batch: that of any statement, and what a busy server takes for each task. A thousand stay below a request's 30 s. */
const batchTimeoutMs = (tasks: number) => 5_000 + 15 * tasks;

/**
 * Stores several tasks in one transaction, each as {@link insertTask} does; the outbox starts them. May be repeated with the same ids.
 * @param tasks those that others wait for come first
 * @returns an outcome for each, in their order
 */
export async function insertTasks(
  sql: Sql,
  tasks: readonly NewTask[],
  options: { readonly owner: string | null; readonly queueMax: number },
): Promise<InsertedTask[]> {
  const items = tasks.map((task) => ({
    task: storedTask(task),
    depends_on: task.dependsOn,
    key: task.idempotency?.key ?? null,
    body_hash: task.idempotency?.bodyHash.toString('base64') ?? null,
  }));
  const timeoutMs = batchTimeoutMs(tasks.length);
  const stored = sql.begin(async (tx) => {
    await tx`select set_config('statement_timeout', ${String(timeoutMs)}, true)`;
    return tx<{ made: Made[] }[]>`select task_create_many(${storedJson(sql, items)}, ${options.owner}, ${options.queueMax}) as made`;
  });
  const [made] = await answered(stored, timeoutMs + 3_000);
  return tasks.map((task, index) => insertedOf(task, made?.made[index] as Made));
}

/** What the functions of PostgreSQL say of a task that was to be stored. */
interface Made {
  readonly outcome: 'created' | 'unknown_dependencies' | 'key_taken' | 'queue_full' | 'too_large';
  readonly ids: string[];
  readonly createdAt: string;
  readonly blockedBy: string[];
  readonly blocked: boolean;
  readonly position: number;
  readonly queued: number;
  readonly amounts: LargeAmount[];
  readonly grant?: GrantRow | null;
}

function storedTask(task: NewTask): object {
  const { plan } = task;
  return {
    id: task.id,
    name: task.name,
    description: task.description,
    exact: task.exact,
    priority_given: task.priorityGiven,
    user_id: task.userId,
    template: plan.template,
    template_hash: plan.templateHash,
    parameters: task.parameters,
    plan,
    request: task.request,
    metadata: task.metadata,
    agent_assigned: task.agentAssigned,
    replayed_from: task.lineage?.replayedFrom ?? null,
    origin_id: task.lineage?.originId ?? null,
  };
}

function insertedOf(task: NewTask, made: Made, first: PlanStep | null = null): InsertedTask {
  const { outcome, ids, createdAt, blockedBy, blocked, position, queued, amounts, grant = null } = made;
  if (outcome === 'unknown_dependencies') return { outcome, ids };
  if (outcome === 'key_taken') return { outcome };
  if (outcome === 'queue_full') return { outcome, queued };
  if (outcome === 'too_large') return { outcome, amounts };
  const statusDetail = blocked ? 'blocked' : blockedBy.length > 0 ? 'waiting_dependency' : null;
  return {
    outcome: 'created',
    row: newRow(task, { createdAt: new Date(createdAt), blockedBy, statusDetail, queuePosition: position }),
    first: grant && first && { step: first.id, grant: grantOf(grant) },
  };
}

/** A task as it is right after it was stored. */
function newRow(task: NewTask, stored: Pick<TaskRow, 'createdAt' | 'blockedBy' | 'statusDetail' | 'queuePosition'>): TaskRow {
  return {
    id: task.id,
    status: 'queued',
    level: levelOfExact(task.exact),
    startedAt: null,
    completedAt: null,
    template: task.plan.template,
    parameters: task.parameters,
    result: null,
    resourceUsage: null,
    name: task.name,
    type: task.plan.template,
    dependsOn: [...task.dependsOn],
    attempt: 1,
    error: null,
    userId: task.userId,
    metadata: task.metadata,
    models: task.models,
    templateHash: task.plan.templateHash,
    replayedFrom: task.lineage?.replayedFrom ?? null,
    originId: task.lineage?.originId ?? null,
    ...stored,
  };
}

// `waiting_retry`: the last try is void and the run waits on its own timer before it enters the line again.
const columns = (sql: Sql) => sql`
  t.id, t.status, t.priority_level as level, t.created_at as "createdAt", t.started_at as "startedAt", t.completed_at as "completedAt",
  t.template, t.parameters, t.result, t.resource_usage as "resourceUsage", t.name, t.type, t.attempt, t.error, t.user_id as "userId", t.metadata,
  (select coalesce(jsonb_agg(m.model order by m.first), '[]') from (
    select jsonb_build_object('name', s -> 'model' -> 'name', 'alias', s -> 'model' -> 'alias', 'digest', s -> 'model' -> 'digest') as model, min(n) as first
    from jsonb_array_elements(coalesce(t.plan -> 'steps', '[]')) with ordinality p (s, n) where s ? 'model' group by 1) m) as models,
  t.template_hash as "templateHash", t.replayed_from as "replayedFrom", t.origin_id as "originId",
  coalesce(d.all, '{}') as "dependsOn", coalesce(d.open, '{}') as "blockedBy",
  case
    when t.status not in ('queued', 'running') then null
    when t.cancel_requested_at is not null then 'cancelling'
    when t.held_at is not null then 'held'
    when t.status = 'queued' and d.failed then 'blocked'
    when t.status = 'queued' and cardinality(d.open) > 0 then 'waiting_dependency'
    when l.state = 'waiting' and l.locks is not null and line_lack(t.id, l.locks, l.amounts) is not null
      then case line_lack(t.id, l.locks, l.amounts) when 'lock' then 'waiting_lock' else 'waiting_resource' end
    when l.state = 'waiting' and l.pool = 'model' and not exists (select from residency where residency.key = l.key and residency.state = 'serving') then 'waiting_model'
    when l.state = 'waiting' then 'waiting_slot'
    when l.state = 'void' and t.status = 'running' then 'waiting_retry'
  end as "statusDetail"`;

const joins = (sql: Sql) => sql`
  left join lateral (
    select array_agg(p.id::text order by e.created_at, p.id) as all,
      coalesce(array_agg(p.id::text order by e.created_at, p.id) filter (where p.status <> 'completed'), '{}') as open,
      bool_or(p.status in ('failed', 'cancelled')) as failed
    from task_dependencies e join tasks p on p.id = e.parent_task_id where e.child_task_id = t.id
  ) d on true
  left join lateral (
    select state, pool, key, locks, amounts from line where line.task_id = t.id and line.attempt = t.attempt
    order by state in ('waiting', 'granted', 'running') desc, line.id desc limit 1
  ) l on true`;

/** One task; null when there is none, or it is not the owner's. Reads. */
export async function readTask(sql: Sql, id: string, owner: string | null): Promise<TaskRow | null> {
  const [row] = await answered(sql<TaskRow[]>`
    select ${columns(sql)},
      case when t.status = 'queued' then 1 + (
        select count(*)::integer from tasks q where q.status = 'queued' and (q.priority > t.priority or (q.priority = t.priority and q.pos < t.pos))
      ) end as "queuePosition"
    from tasks t ${joins(sql)}
    where t.id = ${id} and (${owner}::text is null or t.user_id = ${owner})`);
  return row ?? null;
}

/** Status of one task; null when there is none, or it is not the owner's. Reads. */
export async function readTaskStatus(sql: Sql, id: string, owner: string | null): Promise<TaskStatus | null> {
  const [row] = await answered(sql<{ status: TaskStatus }[]>`select status from tasks where id = ${id} and (${owner}::text is null or user_id = ${owner})`);
  return row?.status ?? null;
}

/** What a replay is made of. */
export interface ReplaySource {
  readonly id: string;
  readonly name: string;
  readonly description: string | null;
  readonly template: string;
  readonly parameters: JsonObject;
  /** retry, limits and resource requirements, as the API took them */
  readonly request: JsonObject;
  readonly metadata: JsonObject;
  /** 0 to 100 */
  readonly exact: number;
  readonly priorityGiven: boolean;
  readonly agentAssigned: string | null;
  readonly userId: string;
  readonly originId: string | null;
}

/** The input of a task; null when there is none, or it is not the owner's. Reads. */
export async function readReplaySource(sql: Sql, id: string, owner: string | null): Promise<ReplaySource | null> {
  const [row] = await answered(sql<ReplaySource[]>`
    select id, name, description, template, parameters, request, metadata, priority as exact, priority_given as "priorityGiven", agent_assigned as "agentAssigned", user_id as "userId", origin_id as "originId"
    from tasks where id = ${id} and (${owner}::text is null or user_id = ${owner})`);
  return row ?? null;
}

/** Those of the ids that are no tasks of the owner's. Reads. */
export async function unknownTasks(sql: Sql, ids: readonly string[], owner: string | null): Promise<string[]> {
  const rows = await answered(sql<{ id: string }[]>`
    select a.id::text from unnest(${ids as string[]}::uuid[]) a (id) where not exists (select 1 from tasks t where t.id = a.id and (${owner}::text is null or t.user_id = ${owner}))`);
  return rows.map(({ id }) => id);
}

/** Bytes of parameters, results and metadata from which on a page ends, however few tasks it has: 500 of the largest would be 2 GB. */
const pageBytesMax = 8 * 1024 ** 2;

/** One page of tasks, newest first, and how many there are on all pages. A page of large tasks is shorter than asked for. Reads. */
export async function listTasks(
  sql: Sql,
  filter: TaskFilter,
  page: { readonly after: TaskPosition | null; readonly limit: number },
): Promise<{ rows: TaskRow[]; total: number; end: TaskPosition | null }> {
  const matches = matching(sql, filter);
  // One row more than asked for tells whether there is a next page.
  const totalOf = countBeside(sql, filter, page.after);
  const rows = await answered(sql<(TaskRow & { createdText: string; fetched: number })[]>`
    with picked as materialized (
      select t.id, t.created_at from tasks t
      where ${matches} ${page.after !== null ? sql`and (t.created_at, t.id) < (${page.after.createdAt}::text::timestamptz, ${page.after.id}::uuid)` : sql``}
      order by t.created_at desc, t.id desc limit ${page.limit + 1}
    ), fetched as (
      select t.*, octet_length(t.parameters::text) + coalesce(octet_length(t.result::text), 0) + octet_length(t.metadata::text) as "sizeBytes" from picked join tasks t on t.id = picked.id
    ), page as materialized (
      select * from (
        select *, count(*) over () as "fetched", sum("sizeBytes") over (order by created_at desc, id desc) - "sizeBytes" as "bytesBefore" from fetched
      ) f where "bytesBefore" < ${pageBytesMax}
    ), queue as materialized (
      select id, row_number() over (order by priority desc, pos, id)::integer as place from tasks where status = 'queued' and exists (select 1 from page where status = 'queued')
    )
    select ${columns(sql)}, queue.place as "queuePosition", t.fetched::integer as fetched,
      to_char(t.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as "createdText"
    from page t left join queue on queue.id = t.id ${joins(sql)}
    order by t.created_at desc, t.id desc`);
  const shown = rows.slice(0, page.limit);
  const last = shown.at(-1);
  const fetched = last?.fetched ?? 0;
  const total = await totalOf(fetched <= page.limit ? fetched : null);
  const more = fetched > shown.length;
  return {
    rows: shown,
    total,
    end: more && last !== undefined ? { createdAt: last.createdText, id: last.id } : null,
  };
}

/**
 * Counts what fits a filter, beside the page that is read meanwhile. To find a part of a name every name is looked at, for the page and for the count; where fewer
 * fit than a page has, the first page has looked at all of them, so then it is awaited before anything is counted.
 * @returns asks for the total; `all`: how many fit, where the first page tells; else null
 */
export function countBeside(sql: Sql, filter: TaskFilter, after: TaskPosition | null): (all: number | null) => Promise<number> {
  const counting = filter.name !== null && after === null ? null : countMatching(sql, filter);
  counting?.catch(() => {}); // nobody asks when the page fails first
  return async (all) => counting ?? all ?? countMatching(sql, filter);
}

/** How many tasks fit a filter. Reads an index alone. */
export async function countMatching(sql: Sql, filter: TaskFilter): Promise<number> {
  const [row] = await answered(sql<{ total: number }[]>`select count(*)::integer as total from tasks t where ${matching(sql, filter)}`);
  return row?.total ?? 0;
}

/** The condition of a filter on `tasks t`; of what the indexes for lists hold, but for the two halves of `queued`. */
export function matching(sql: Sql, filter: TaskFilter) {
  return sql`
    (${filter.owner}::text is null or t.user_id = ${filter.owner})
    ${filter.statuses.length > 0 ? sql`and (false ${anyStatus(sql, filter.statuses)})` : sql``}
    ${filter.templates.length > 0 ? sql`and t.template = any(${filter.templates as string[]})` : sql``}
    ${filter.levels.length > 0 ? sql`and t.priority_level = any(${filter.levels as number[]})` : sql``}
    ${filter.types.length > 0 ? sql`and t.type = any(${filter.types as string[]})` : sql``}
    ${filter.userIds.length > 0 ? sql`and t.user_id = any(${filter.userIds as string[]})` : sql``}
    ${filter.name !== null ? sql`and ${nameHas(sql, filter.name)}` : sql``}
    ${filter.createdAfter !== null ? sql`and t.created_at > ${filter.createdAfter}` : sql``}
    ${filter.createdBefore !== null ? sql`and t.created_at < ${filter.createdBefore}` : sql``}
    ${filter.endedAfter != null ? sql`and t.completed_at > ${filter.endedAfter}` : sql``}
    ${filter.endedBefore != null ? sql`and t.completed_at < ${filter.endedBefore}` : sql``}`;
}

/**
 * A name that has a text in it, upper and lower case alike. As `ilike`, which makes both sides small for each row, in half the time; what has only letters of
 * ASCII is found by them alone. There is no index of trigrams: it would make each change of a task three times as dear, for parts that are rare and have three
 * letters or more.
 */
function nameHas(sql: Sql, text: string) {
  const pattern = `%${text.replaceAll(/[\\%_]/g, '\\$&')}%`;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: all of ASCII
  return /^[\u0000-\u007f]*$/.test(text) ? sql`lower(t.name collate "C") like ${pattern.toLowerCase()}` : sql`lower(t.name) like lower(${pattern})`;
}

function anyStatus(sql: Sql, statuses: readonly StatusFilter[]) {
  const stored = statuses.filter((status) => status !== 'created' && status !== 'waiting');
  return sql`
    ${stored.length > 0 ? sql`or t.status = any(${stored as string[]})` : sql``}
    ${statuses.includes('created') ? sql`or (t.status = 'queued' and t.first_run_id is null)` : sql``}
    ${statuses.includes('waiting') ? sql`or (t.status = 'queued' and t.first_run_id is not null)` : sql``}`;
}

/** What may be done to many tasks at once; `exact` is the new priority, 0 to 100. */
export type BulkMove = { readonly action: 'cancel' | 'retry' } | { readonly action: 'priority'; readonly exact: number };

/** The condition on `tasks t` that a move has an effect on a task, as the functions `task_cancel`, `task_retry` and `task_prioritise` decide it. */
function movable(sql: Sql, move: BulkMove) {
  switch (move.action) {
    case 'cancel':
      return sql`(t.status in ('queued', 'running') and t.cancel_requested_at is null)`;
    case 'retry':
      return sql`t.status in ('failed', 'cancelled')`;
    case 'priority':
      return sql`(t.status in ('queued', 'running') and (t.priority <> ${move.exact} or not t.priority_given))`;
  }
}

/** Ids of the tasks that fit a filter and that a move has an effect on, in the order of their ids, at most `limit`, and how many those are in all. Reads. */
export async function matchTasks(sql: Sql, filter: TaskFilter, move: BulkMove, limit: number): Promise<{ ids: string[]; total: number }> {
  const [row] = await answered(sql<{ ids: string[] | null; total: number }[]>`
    with fits as materialized (select t.id from tasks t where ${matching(sql, filter)} and ${movable(sql, move)})
    select (select count(*)::integer from fits) as total, (select array_agg(id::text) from (select id from fits order by id limit ${limit}) f) as ids`);
  return { ids: row?.ids ?? [], total: row?.total ?? 0 };
}

/** Those of the ids that are tasks of the owner's, with their status and whether a move has an effect on them. Reads. */
export async function readMovable(
  sql: Sql,
  ids: readonly string[],
  owner: string | null,
  move: BulkMove,
): Promise<Map<string, { readonly status: TaskStatus; readonly movable: boolean }>> {
  const rows = await answered(sql<{ id: string; status: TaskStatus; movable: boolean }[]>`
    select t.id, t.status, ${movable(sql, move)} as movable from tasks t
    where t.id = any(${ids as string[]}::uuid[]) and (${owner}::text is null or t.user_id = ${owner})`);
  return new Map(rows.map(({ id, ...standing }) => [id, standing]));
}

/** How many tasks have each status; a status without tasks is 0. Reads. */
export async function countTasks(sql: Sql): Promise<Record<TaskStatus, number>> {
  const rows = await answered(sql<{ status: TaskStatus; count: number }[]>`select status, count(*)::integer as count from tasks group by status`);
  const counts: Record<TaskStatus, number> = { queued: 0, running: 0, completed: 0, failed: 0, cancelled: 0 };
  for (const row of rows) counts[row.status] = row.count;
  return counts;
}

/** What the start of a task's Temporal workflow needs. */
export interface TaskToStart {
  readonly taskId: string;
  readonly name: string;
  readonly attempt: number;
  readonly plan: Plan;
  /** 0 to 100 */
  readonly exact: number;
  readonly userId: string;
  /** what the transaction that stored it has granted already */
  readonly first?: FirstGrant | null;
}

/** The present attempt of a task, to start it; null when there is no such task. Reads. */
export async function readTaskToStart(sql: Sql, id: string): Promise<TaskToStart | null> {
  const [row] = await answered(sql<TaskToStart[]>`
    select id as "taskId", name, attempt, plan, priority as exact, user_id as "userId" from tasks where id = ${id}`);
  return row ?? null;
}

/** Removes the outbox row of an attempt that was started. May be repeated. */
export async function forgetStart(sql: Sql, taskId: string, attempt: number): Promise<void> {
  await answered(sql`delete from outbox where kind = 'start' and task_id = ${taskId} and (payload ->> 'attempt')::integer = ${attempt}`);
}

/** Lets the outbox start a task at once instead of after its creator's time. May be repeated. */
export async function hastenStart(sql: Sql, taskId: string): Promise<void> {
  await answered(sql`update outbox set next_at = least(next_at, now()) where kind = 'start' and task_id = ${taskId}`);
  await answered(sql`select pg_notify('outbox', '')`);
}
