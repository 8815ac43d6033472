import type { Role } from '../contract/roles.js';
import { answered, type Sql } from './connect.js';

/** What is stored of an API key; the key itself is not. */
export interface ApiKeyRow {
  readonly id: string;
  readonly name: string;
  readonly userId: string;
  readonly role: Role;
  readonly createdAt: Date;
  readonly expiresAt: Date | null;
  readonly revokedAt: Date | null;
  readonly lastUsedAt: Date | null;
}

export interface NewApiKey {
  readonly id: string;
  readonly name: string;
  readonly userId: string;
  readonly role: Role;
  /** SHA-256 of the whole key */
  readonly hash: Buffer;
  readonly expiresAt: Date | null;
}

const columns = (sql: Sql) => sql`
  id, name, user_id as "userId", role, created_at as "createdAt", expires_at as "expiresAt", revoked_at as "revokedAt", last_used_at as "lastUsedAt"`;

/** Stores a key. May be repeated: a key of the same id stays as it is. */
export async function insertApiKey(sql: Sql, key: NewApiKey): Promise<void> {
  await answered(sql`
    insert into api_keys (id, name, user_id, role, hash, expires_at)
    values (${key.id}, ${key.name}, ${key.userId}, ${key.role}, ${key.hash}, ${key.expiresAt}) on conflict (id) do nothing`);
}

/** The key of this id with its hash, and whether it is valid now by the database's clock. Reads. */
export async function findApiKey(sql: Sql, id: string): Promise<(ApiKeyRow & { readonly hash: Buffer; readonly valid: boolean }) | null> {
  const [row] = await answered(sql<(ApiKeyRow & { hash: Buffer; valid: boolean })[]>`
    select ${columns(sql)}, hash, revoked_at is null and (expires_at is null or expires_at > now()) as valid from api_keys where id = ${id}`);
  return row ?? null;
}

/** Keys, newest first; `userId` null: of everybody. Reads. */
export async function listApiKeys(sql: Sql, userId: string | null): Promise<ApiKeyRow[]> {
  return answered(sql<ApiKeyRow[]>`
    select ${columns(sql)} from api_keys where ${userId === null ? sql`true` : sql`user_id = ${userId}`} order by created_at desc, id`);
}

/** Makes a key void from now on. May be repeated. False: no such key. */
export async function revokeApiKey(sql: Sql, id: string): Promise<boolean> {
  const done = await answered(sql`update api_keys set revoked_at = coalesce(revoked_at, now()) where id = ${id}`);
  return done.count === 1;
}

/** Notes the use of a key, at most once a minute. May be repeated. */
export async function noteApiKeyUse(sql: Sql, id: string): Promise<void> {
  await answered(sql`update api_keys set last_used_at = now() where id = ${id} and (last_used_at is null or last_used_at < now() - interval '1 minute')`);
}
