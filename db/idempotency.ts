import { answered, type Sql } from './connect.js';

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
