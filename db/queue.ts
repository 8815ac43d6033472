import { setImmediate } from 'node:timers/promises';
import type { JsonObject } from '../contract/json.js';
import type { Pool } from '../contract/plan.js';
import type { ResidencyKey } from '../contract/queues.js';
import type { StatusDetail, TaskStatus } from '../contract/status.js';
import { answered, type Sql } from './connect.js';

/** What takes no grants until it is resumed: `queue`, `host:<id>`, `model:<name>`. */
export type PauseScope = 'queue' | `host:${string}` | `model:${string}`;

export interface PauseRow {
  readonly scope: PauseScope;
  readonly by: string | null;
  readonly reason: string | null;
  readonly at: Date;
}

/** Every pause, the oldest first. Reads. */
export async function readPauses(sql: Sql): Promise<PauseRow[]> {
  return answered(sql<PauseRow[]>`select scope, by_user as by, reason, at from queue_pauses order by at, scope`);
}

/** Lets a scope take no grants any more; what runs goes on. A repeat changes the reason, if it gives one. May be repeated. */
export async function pauseQueue(
  sql: Sql,
  scope: PauseScope,
  { by, reason }: { readonly by: string; readonly reason: string | null },
): Promise<'paused' | 'unchanged' | 'unknown_host'> {
  const [row] = await answered(sql<{ done: { outcome: 'paused' | 'unchanged' | 'unknown_host' } }[]>`select queue_pause(${scope}, ${by}, ${reason}) as done`);
  return row?.done.outcome ?? 'unchanged';
}

/** Ends a pause. May be repeated. */
export async function resumeQueue(sql: Sql, scope: PauseScope, by: string): Promise<'resumed' | 'unchanged'> {
  const [row] = await answered(sql<{ done: { outcome: 'resumed' | 'unchanged' } }[]>`select queue_resume(${scope}, ${by}) as done`);
  return row?.done.outcome ?? 'unchanged';
}

/** The last row of the line and the last task to come; both grow. */
export interface Newest {
  readonly row: number;
  readonly pos: number;
}

const newest = (sql: Sql) =>
  sql`jsonb_build_object('row', coalesce((select max(id) from line), 0), 'pos', coalesce((select max(pos) from tasks where status in ('queued', 'running')), 0))`;

/** The order of the queue as people have changed it, with what runs, what is paused and which hosts change their models. */
export interface QueueNow {
  /** counts the changes that people make to the order */
  readonly version: number;
  readonly newest: Newest;
  readonly pauses: readonly PauseRow[];
  readonly running: readonly RunningRow[];
  readonly changes: readonly ModelChangeRow[];
}

/** A step that runs or is granted. */
export interface RunningRow {
  readonly taskId: string;
  readonly name: string;
  readonly userId: string;
  readonly level: number;
  readonly step: string;
  readonly key: ResidencyKey | null;
  /** the engine for a step without a model */
  readonly host: string;
  readonly startedAt: Date | null;
  /** how far it says it is */
  readonly progress: JsonObject | null;
}

/** An order that a host carries out. */
export interface ModelChangeRow {
  readonly host: string;
  readonly unload: readonly ResidencyKey[];
  readonly load: ResidencyKey | null;
  readonly pull: string | null;
  readonly reason: string;
  /** null: the engine decided it */
  readonly requestedBy: string | null;
  readonly createdAt: Date;
}

/** Steps that run at most; there are as many as slots. */
const runningMax = 500;

/** What is true of the queue as a whole; costs as much as things run. Reads. */
export async function readQueueNow(sql: Sql): Promise<QueueNow> {
  const [row] = await answered(sql<{ now: StoredNow }[]>`
    select jsonb_build_object(
      'version', s.version,
      'newest', ${newest(sql)},
      'pauses', (select coalesce(jsonb_agg(jsonb_build_object('scope', scope, 'by', by_user, 'reason', reason, 'at', at) order by at, scope), '[]') from queue_pauses),
      'running', (select coalesce(jsonb_agg(r.entry order by r.id), '[]') from (
        select l.id, jsonb_build_object('taskId', l.task_id, 'name', t.name, 'userId', t.user_id, 'level', t.priority_level, 'step', l.step, 'key', l.key,
          'host', coalesce(l.engine, l.host), 'startedAt', l.started_at, 'progress', (
            select e.data from task_events e where e.task_id = l.task_id and e.kind = 'progress' and e.data ->> 'step' = l.step and e.at >= l.started_at order by e.id desc limit 1)) as entry
        from line l join tasks t on t.id = l.task_id where l.state in ('granted', 'running') order by l.id limit ${runningMax}) r),
      'changes', (select coalesce(jsonb_agg(jsonb_build_object('host', host, 'unload', to_jsonb(unload), 'load', load_key, 'pull', pull_model, 'reason', reason,
        'requestedBy', requested_by, 'createdAt', created_at)
        order by created_at, host), '[]') from residency_orders where state = 'open')) as now
    from queue_state s`);
  if (row === undefined) throw new Error('PostgreSQL returned no row');
  const { version, newest: last, pauses, running, changes } = row.now;
  return {
    version,
    newest: last,
    pauses: pauses.map((pause) => ({ ...pause, at: new Date(pause.at) })),
    running: running.map((each) => ({ ...each, startedAt: each.startedAt === null ? null : new Date(each.startedAt) })),
    changes: changes.map((change) => ({ ...change, createdAt: new Date(change.createdAt) })),
  };
}

/** The same with times as texts. */
interface StoredNow {
  readonly version: number;
  readonly newest: Newest;
  readonly pauses: readonly (Omit<PauseRow, 'at'> & { readonly at: string })[];
  readonly running: readonly (Omit<RunningRow, 'startedAt'> & { readonly startedAt: string | null })[];
  readonly changes: readonly (Omit<ModelChangeRow, 'createdAt'> & { readonly createdAt: string })[];
}

/** A step that waits, or a task none of whose steps has entered the line; in the order of arrival. */
export interface QueueRow {
  readonly taskId: string;
  /** null: none has entered the line yet */
  readonly step: string | null;
  readonly pool: Pool | null;
  readonly key: ResidencyKey | null;
  /** 1 to 10, as asked for */
  readonly level: number;
  /** 0 to 100 */
  readonly exact: number;
  /** since when it waits */
  readonly enteredAtMs: number;
  /** when a person placed, held or released its task; null: never */
  readonly placedAtMs: number | null;
  readonly userId: string;
  readonly template: string;
  readonly detail: StatusDetail;
  /** its place as PostgreSQL has it: a number of up to 60 digits behind the point */
  readonly pos: string;
}

/** The rows of one look, and what it is a look at. */
export interface QueueRows {
  readonly version: number;
  /** when the order was changed last; of the clock of the database, as it writes it */
  readonly changedAt: string;
  readonly newest: Newest;
  /** the clock of the database */
  readonly nowMs: number;
  readonly rows: QueueRow[];
}

/** Rows in one text. */
const chunkRows = 500;

/**
 * Everything that waits, in the order of arrival, and the version of the queue that it is of. It is sent as texts of JSON, since thousands of rows would each be
 * taken apart on their own. Reads.
 * @param options.placedAfter only what people have placed, held or released since; as `changedAt`
 */
export async function readQueueRows(sql: Sql, options: { readonly placedAfter?: string } = {}): Promise<QueueRows> {
  const { placedAfter } = options;
  const placed = placedAfter === undefined ? sql`` : sql`and t.placed_at > ${placedAfter}::timestamptz`;
  const chunks = await answered(sql<{ version: string; changedAt: string; newest: Newest; nowMs: number; rows: string | null }[]>`
    with serving as materialized (select array_agg(key) as keys from residency where state = 'serving'),
    held as materialized (select held_now() as now),
    waits as (
      select l.task_id, l.step, l.pool, l.key, t.priority_level as level, t.priority as exact, t.pos, l.id, l.entered_at, t.placed_at, t.user_id, t.template,
        case
          when t.cancel_requested_at is not null then 'cancelling'
          when t.held_at is not null then 'held'
          when l.not_before = 'infinity' then case when exists (
            select 1 from task_dependencies d join tasks p on p.id = d.parent_task_id where d.child_task_id = t.id and p.status in ('failed', 'cancelled')) then 'blocked' else 'waiting_dependency' end
          when l.locks is not null and not t.id = any((held.now).holders) then case needs_lack(l.locks, l.amounts, held.now) when 'lock' then 'waiting_lock' when 'resource' then 'waiting_resource' when 'never' then 'waiting_resource' end
        end as detail
      from line l join tasks t on t.id = l.task_id cross join held where l.state = 'waiting' ${placed}
      union all
      select t.id, null, null, null, t.priority_level, t.priority, t.pos, 0, t.created_at, t.placed_at, t.user_id, t.template, case when t.held_at is not null then 'held' else 'waiting_slot' end
      from tasks t where t.status = 'queued' and not exists (select 1 from line l where l.task_id = t.id and l.state in ('waiting', 'granted', 'running')) ${placed}
    ),
    texts as (
      select chunk, json_agg(json_build_array(task_id, step, pool, key, level, exact, floor(extract(epoch from entered_at) * 1000), floor(extract(epoch from placed_at) * 1000), user_id, template,
        coalesce(detail, case when pool = 'model' and key <> all(coalesce(serving.keys, '{}')) then 'waiting_model' else 'waiting_slot' end), pos::text) order by place)::text as rows
      from (select *, row_number() over (order by pos, id) as place, (row_number() over (order by pos, id) - 1) / ${chunkRows}::integer as chunk from waits) w, serving group by chunk
    ),
    last as materialized (select ${newest(sql)} as newest)
    select s.version, s.changed_at::text as "changedAt", last.newest, extract(epoch from clock_timestamp())::double precision * 1000 as "nowMs", texts.rows
    from queue_state s cross join last left join texts on true order by texts.chunk`);
  const [first] = chunks;
  if (first === undefined) throw new Error('PostgreSQL returned no row');
  const rows: QueueRow[] = [];
  for (const { rows: text } of chunks) {
    if (text === null) continue;
    for (const row of JSON.parse(text) as StoredRow[]) rows.push(rowOf(row));
    await setImmediate(); // a long queue keeps nobody waiting
  }
  return { version: Number(first.version), changedAt: first.changedAt, newest: first.newest, nowMs: first.nowMs, rows };
}

type StoredRow = [string, string | null, Pool | null, ResidencyKey | null, number, number, number, number | null, string, string, StatusDetail, string];

function rowOf([taskId, step, pool, key, level, exact, enteredAtMs, placedAtMs, userId, template, detail, pos]: StoredRow): QueueRow {
  return { taskId, step, pool, key, level, exact, enteredAtMs, placedAtMs, userId, template, detail, pos };
}

/** A task of which something waits. */
export interface QueuedTask {
  readonly name: string;
  readonly userId: string;
  readonly template: string;
  readonly status: TaskStatus;
  /** of it that waits now; a task that has not begun may wait without a step */
  readonly steps: readonly string[];
}

/** The tasks of a page of the queue as they are now, by id. Reads. */
export async function readQueuedTasks(sql: Sql, ids: readonly string[]): Promise<Map<string, QueuedTask>> {
  const rows = await answered(sql<(QueuedTask & { id: string })[]>`
    select t.id, t.name, t.user_id as "userId", t.template, t.status, array(select l.step from line l where l.task_id = t.id and l.state = 'waiting') as steps
    from tasks t where t.id = any(${ids as string[]}::uuid[])`);
  return new Map(rows.map(({ id, ...task }) => [id, task]));
}
