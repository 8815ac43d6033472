import type { JsonObject } from '../contract/json.js';
import type { TaskStatus } from '../contract/status.js';
import type { Deadlock, RunningTask } from '../scheduling/wait-for.js';
import { answered, type Sql } from './connect.js';
import { storedJson } from './stored-json.js';
import type { LargeAmount } from './tasks.js';

export type AcquireOutcome =
  | { readonly outcome: 'not_found' | 'too_many' }
  | { readonly outcome: 'not_running'; readonly status: TaskStatus }
  | { readonly outcome: 'acquired'; readonly holder: string }
  /** `holder` null: a task that the owner may not see, or one that waits for it and comes first */
  | { readonly outcome: 'refused'; readonly holder: string | null };

/**
 * Lets a running task take a lock when it is free. May be repeated.
 * @param options.wait whether a refusal is remembered for 30 seconds, so that the lock is kept for the task and a deadlock is seen
 * @param options.owner whose task it must be; null: anybody's
 */
export async function acquireLock(
  sql: Sql,
  name: string,
  taskId: string,
  options: { readonly owner: string | null; readonly wait: boolean; readonly locksMax: number },
): Promise<AcquireOutcome> {
  const [row] = await answered(sql<{ outcome: AcquireOutcome }[]>`
    select lock_acquire(${name}, ${taskId}, ${options.owner}, ${options.wait}, ${options.locksMax}) as outcome`);
  return row?.outcome ?? { outcome: 'not_found' };
}

/** Gives a lock back that a task took while it ran, and forgets that it waits for it. May be repeated; a repeat answers `not_held`. */
export async function releaseLock(sql: Sql, name: string, taskId: string, owner: string | null): Promise<'not_found' | 'released' | 'not_held'> {
  const [row] = await answered(sql<{ outcome: { outcome: 'not_found' | 'released' | 'not_held' } }[]>`
    select lock_release(${name}, ${taskId}, ${owner}) as outcome`);
  return row?.outcome.outcome ?? 'not_found';
}

/** A lock that is held, with who waits for it; `taskId` null and ids left out where the tasks are not the owner's. */
export interface LockRow {
  readonly name: string;
  readonly taskId: string | null;
  readonly acquiredAt: Date;
  /** taken by the running task beside what it needed at its start */
  readonly asked: boolean;
  /** running tasks that asked for it, and tasks in the line that need it */
  readonly waiting: string[];
}

/**
 * Locks that tasks hold, by name. Reads.
 * @param page.after the name that the first one follows; null: from the first
 */
export async function listLocks(sql: Sql, owner: string | null, page: { readonly after: string | null; readonly limit: number }): Promise<LockRow[]> {
  return answered(sql<LockRow[]>`
    select h.name, case when ${owner}::text is null or t.user_id = ${owner} then h.task_id::text end as "taskId", h.acquired_at as "acquiredAt", h.asked,
      array(
        select w.id::text from tasks w where (${owner}::text is null or w.user_id = ${owner}) and w.id <> h.task_id and w.id in (
          select task_id from lock_wishes where name = h.name and asked_at > clock_timestamp() - interval '30 seconds'
          union select l.task_id from line l where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.locks is not null and h.name = any(l.locks))
        order by w.priority desc, w.pos, w.id limit 100) as waiting
    from holds h join tasks t on t.id = h.task_id ${page.after === null ? sql`` : sql`where h.name > ${page.after}`} order by h.name limit ${page.limit}`);
}

export interface ResourceRow {
  readonly pool: string;
  readonly total: number;
  readonly allocated: number;
  /** measured on the machines, all programs; null: not measured */
  readonly used: number | null;
  readonly configured: boolean;
  /** tasks of the owner's that hold some of it */
  readonly tasks: { readonly task_id: string; readonly amount: number }[];
  /** steps in the line whose task needs some of it and has it not */
  readonly waiting: number;
}

/** Every pool with what there is of it, by name. Reads. */
export async function listResources(sql: Sql, owner: string | null): Promise<ResourceRow[]> {
  return answered(sql<ResourceRow[]>`
    select p.pool, p.total::double precision as total, p.allocated::double precision as allocated, p.used::double precision as used,
      exists (select 1 from resource_shares s where s.machine = '' and s.pool = p.pool) as configured,
      (select coalesce(jsonb_agg(jsonb_build_object('task_id', a.task_id, 'amount', a.amount) order by a.amount desc, a.task_id), '[]')
        from allocations a join tasks t on t.id = a.task_id where a.pool = p.pool and (${owner}::text is null or t.user_id = ${owner})) as tasks,
      (select count(*)::integer from line l where l.state = 'waiting' and not l.held and l.not_before < 'infinity' and l.locks is not null and l.amounts ? p.pool
        and not exists (select 1 from allocations a where a.task_id = l.task_id and a.pool = p.pool)) as waiting
    from resource_pools() p order by p.pool`);
}

/** What of a request's `resource_requirements` is more than there is. Reads. */
export async function readExceeded(sql: Sql, requirements: JsonObject): Promise<readonly LargeAmount[]> {
  const [row] = await answered(sql<{ exceeded: LargeAmount[] | null }[]>`select required_too_much(${storedJson(sql, requirements)}) as exceeded`);
  return row?.exceeded ?? [];
}

/** An amount of a pool that a machine has, and how much of it all programs use; null: not measured. */
export interface Share {
  readonly pool: string;
  readonly total: number;
  readonly used: number | null;
}

/** Notes what a machine has and uses; told again, it replaces what was. May be repeated. */
export async function tellShares(sql: Sql, machine: string, shares: readonly Share[]): Promise<void> {
  await answered(sql`
    insert into resource_shares as r (machine, pool, total, used, seen_at)
    select ${machine}, s ->> 'pool', (s ->> 'total')::numeric, (s ->> 'used')::numeric, clock_timestamp() from jsonb_array_elements(${storedJson(sql, shares)}) s
    on conflict (machine, pool) do update set total = excluded.total, used = excluded.used, seen_at = excluded.seen_at`);
}

/** The amounts of the configuration, instead of those that were configured before. The engine that starts last counts. May be repeated. */
export async function configurePools(sql: Sql, pools: Readonly<Record<string, number>>): Promise<void> {
  await answered(
    sql.begin(async (tx) => {
      await tx`delete from resource_shares where machine = '' and not pool = any(${Object.keys(pools)})`;
      await tx`
        insert into resource_shares (machine, pool, total) select '', key, value::numeric from jsonb_each_text(${storedJson(tx, pools)})
        on conflict (machine, pool) do update set total = excluded.total, seen_at = clock_timestamp()`;
      await tx`select pg_notify('line', '')`;
    }),
  );
}

/** What running tasks hold and wait for. */
export interface Waits {
  /** tasks that give way and whose steps are still being stopped, or whose locks are not freed yet */
  readonly givingWay: number;
  readonly totals: Readonly<Record<string, number>>;
  readonly tasks: readonly RunningTask[];
}

/** Null when no running task waits for a lock, and none gives way. Reads. */
export async function readWaits(sql: Sql): Promise<Waits | null> {
  const [row] = await answered(sql<{ waits: Waits | null }[]>`select waits_read() as waits`);
  return row?.waits ?? null;
}

/**
 * Lets the victim of a deadlock give way: its steps are stopped and enter the line again. May be repeated.
 * @returns false when it no longer waits, when it gives way already, or when somebody decides at this moment
 */
export async function giveWay(sql: Sql, deadlock: Deadlock, reason: string): Promise<boolean> {
  const cause = { members: deadlock.members, waits: deadlock.edges.map(({ taskId, holder, what }) => ({ task_id: taskId, holder, what })), reason };
  const [row] = await answered(sql<{ marked: boolean }[]>`select holds_give_way(${deadlock.victim}, ${storedJson(sql, cause)}) as marked`);
  return row?.marked ?? false;
}

/** Frees what tasks hold that give way and whose steps have stopped. May be repeated. @returns how many are still being stopped */
export async function settleGivenWays(sql: Sql): Promise<number> {
  const [row] = await answered(sql<{ left: number }[]>`select holds_settle() as left`);
  return row?.left ?? 0;
}
