import { answered, type Sql, type TransactionSql } from './connect.js';

/** A request that was answered before under the same key of the same user. */
export interface RememberedRequest {
  readonly taskId: string;
  readonly bodyHash: Buffer;
}

const keptFor = '24 hours';

/** What a user's idempotency key stands for; null when it is unknown or older than a day. Reads. */
export async function findIdempotent(sql: Sql, userId: string, key: string): Promise<RememberedRequest | null> {
  const [row] = await answered(sql<{ taskId: string; bodyHash: Buffer }[]>`
    select task_id as "taskId", body_hash as "bodyHash" from idempotency_keys
    where user_id = ${userId} and key = ${key} and created_at > now() - ${keptFor}::interval`);
  return row ?? null;
}

/**
 * Takes a key for a task, inside the transaction that creates it. Another transaction that takes the same key waits for this one.
 * May be repeated for the same task.
 * @returns false when the key belongs to another task
 */
export async function takeIdempotencyKey(sql: TransactionSql, entry: { userId: string; key: string; bodyHash: Buffer; taskId: string }): Promise<boolean> {
  const taken = await sql`
    insert into idempotency_keys (user_id, key, body_hash, task_id) values (${entry.userId}, ${entry.key}, ${entry.bodyHash}, ${entry.taskId})
    on conflict (user_id, key) do update set body_hash = excluded.body_hash, task_id = excluded.task_id, created_at = now()
      where idempotency_keys.created_at <= now() - ${keptFor}::interval or idempotency_keys.task_id = excluded.task_id`;
  return taken.count === 1;
}
