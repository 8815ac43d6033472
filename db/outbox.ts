import type { JsonValue } from '../contract/json.js';
import type { ResidencyOrder } from '../contract/residency.js';
import { answered, type Sql, type TransactionSql } from './connect.js';
import { storedJson, storedText } from './stored-json.js';

/**
 * Something to be told to Temporal, written by the transaction that it follows from. Delivered at least once, and in order for each workflow.
 * start: StartWorkflow of a task's attempt; cancel: cancel its workflow; signal: by name with its arguments; residency: an order for changeResidency.
 */
export type OutboxMessage =
  | { readonly kind: 'start'; readonly payload: { readonly attempt: number } }
  | { readonly kind: 'cancel'; readonly payload: Readonly<Record<string, never>> }
  | { readonly kind: 'signal'; readonly payload: { readonly name: string; readonly args: JsonValue[] } }
  | { readonly kind: 'residency'; readonly payload: ResidencyOrder };

export type OutboxEntry = OutboxMessage & { readonly workflowId: string; readonly taskId: string | null };

/** An entry taken for delivery; `attempts` counts this one. */
export type TakenEntry = OutboxEntry & { readonly id: string; readonly attempts: number };

/** Writes an entry inside the caller's transaction, and wakes the deliverers when it commits. */
export async function putOutbox(tx: TransactionSql, entry: OutboxEntry): Promise<void> {
  await tx`
    with put as (
      insert into outbox (kind, workflow_id, task_id, payload) values (${entry.kind}, ${entry.workflowId}, ${entry.taskId}, ${storedJson(tx, entry.payload)}) returning 1)
    select pg_notify('outbox', '') from put`;
}

/**
 * Takes entries that are due, of each workflow only the oldest. Nobody else gets them for `leaseMs`; then they count as undelivered.
 * @returns in order of their writing
 */
export async function takeDue(sql: Sql, options: { readonly limit: number; readonly leaseMs: number }): Promise<TakenEntry[]> {
  return answered(sql<TakenEntry[]>`
    with due as (
      select id from outbox o
      where next_at <= clock_timestamp() and not exists (select 1 from outbox earlier where earlier.workflow_id = o.workflow_id and earlier.id < o.id)
      order by next_at, id limit ${options.limit} for update skip locked),
    taken as (
      update outbox set attempts = attempts + 1, next_at = clock_timestamp() + ${options.leaseMs} * interval '1 millisecond' from due where outbox.id = due.id
      returning outbox.id, kind, workflow_id as "workflowId", task_id as "taskId", payload, attempts)
    select * from taken order by id`);
}

/** Removes a delivered entry. @returns whether the same workflow has a further one */
export async function doneOutbox(sql: Sql, entry: Pick<TakenEntry, 'id' | 'workflowId'>): Promise<boolean> {
  const [row] = await answered(sql<{ more: boolean }[]>`
    with done as (delete from outbox where id = ${entry.id})
    select exists (select 1 from outbox where workflow_id = ${entry.workflowId} and id <> ${entry.id}) as more`);
  return row?.more ?? false;
}

/** Puts a failed delivery off: half a second, doubled with each attempt, at most a minute. */
export async function laterOutbox(sql: Sql, id: string, error: string): Promise<void> {
  await answered(sql`
    update outbox set last_error = ${storedText(error).slice(0, 1_000)},
      next_at = clock_timestamp() + least(interval '1 minute', interval '500 milliseconds' * power(2, least(attempts, 10) - 1))
    where id = ${id}`);
}

/** Milliseconds until the next entry is due; null when there is none. */
export async function outboxDueMs(sql: Sql): Promise<number | null> {
  const [row] = await answered(sql<{ due: number | null }[]>`
    select ceil(extract(epoch from min(next_at) - clock_timestamp()) * 1000)::double precision as due from outbox`);
  return row?.due == null ? null : Math.max(0, row.due); // in SQL, greatest(0, null) is 0
}
