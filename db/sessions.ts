import type { Role } from '../contract/roles.js';
import { type AuditEntry, addAuditEntry } from './audit.js';
import { answered, type Sql, type TransactionSql } from './connect.js';

/** What opens a session: a user whose password was found right, a valid API key, or a ticket by its hash. */
export type SessionSource = { readonly userId: string; readonly password: string } | { readonly keyId: string } | { readonly ticket: Buffer };

/** Who a session stands for, with the rights of this moment. */
export interface SessionRow {
  readonly userId: string;
  readonly role: Role;
  /** the API key it was opened with; null: by password */
  readonly keyId: string | null;
  readonly expiresAt: Date;
}

/**
 * Opens a session for a day. Null: the ticket is used or too old, the key void, the user gone, disabled or with another password by now. Not to be repeated: a
 * ticket is used up by the first call.
 * @param hash SHA-256 of the new token
 */
export async function openSession(sql: Sql, hash: Buffer, source: SessionSource, entryOf: (session: SessionRow) => AuditEntry): Promise<SessionRow | null> {
  return answered(
    sql.begin(async (tx) => {
      await tx`delete from sessions where expires_at <= now()`;
      await tx`delete from sign_in_tickets where expires_at <= now()`;
      if ('userId' in source) {
        // Locked, so that a change of the password waits for the session that it is to end.
        await tx`
          insert into sessions (hash, user_id, expires_at)
          select ${hash}, id, now() + interval '24 hours' from users where id = ${source.userId} and password = ${source.password} and disabled_at is null for share`;
      } else if ('keyId' in source) {
        await tx`insert into sessions (hash, key_id, expires_at) select ${hash}, id, now() + interval '24 hours' from api_keys where id = ${source.keyId}`;
      } else {
        // Of two at once one removes the row, and the other finds none.
        await tx`
          with used as (delete from sign_in_tickets where hash = ${source.ticket} returning key_id)
          insert into sessions (hash, key_id, expires_at) select ${hash}, key_id, now() + interval '24 hours' from used`;
      }
      const [session] = await tx<SessionRow[]>`select * from (${standing(tx, hash)}) s`;
      if (session === undefined) await tx`delete from sessions where hash = ${hash}`;
      else await addAuditEntry(tx, entryOf(session));
      return session ?? null;
    }),
  );
}

/** Who has this session, when it is valid now. Reads. */
export async function findSession(sql: Sql, hash: Buffer): Promise<SessionRow | null> {
  const [row] = await answered(sql<SessionRow[]>`select * from (${standing(sql, hash)}) s`);
  return row ?? null;
}

/** Lets a session that is used last for another day, up to a week after it was opened; at most once an hour. May be repeated. */
export async function extendSession(sql: Sql, hash: Buffer): Promise<void> {
  await answered(sql`
    update sessions set expires_at = least(now() + interval '24 hours', created_at + interval '7 days')
    where hash = ${hash} and expires_at > now() and least(now() + interval '24 hours', created_at + interval '7 days') > expires_at + interval '1 hour'`);
}

/** Ends a session. May be repeated. */
export async function endSession(sql: Sql, hash: Buffer, entryOf: (session: SessionRow) => AuditEntry): Promise<void> {
  await answered(
    sql.begin(async (tx) => {
      const [session] = await tx<SessionRow[]>`select * from (${standing(tx, hash)}) s`;
      const done = await tx`delete from sessions where hash = ${hash}`;
      if (session !== undefined && done.count === 1) await addAuditEntry(tx, entryOf(session));
    }),
  );
}

/** Keeps a ticket for a session with the rights of a key. May be repeated. @param minutes how long it is valid @returns when it ends; null: no such key */
export async function insertTicket(sql: Sql, hash: Buffer, keyId: string, minutes: number, entry: AuditEntry): Promise<Date | null> {
  return answered(
    sql.begin(async (tx) => {
      const [row] = await tx<{ expiresAt: Date }[]>`
        insert into sign_in_tickets (hash, key_id, expires_at) select ${hash}, id, now() + ${minutes} * interval '1 minute' from api_keys where id = ${keyId}
        on conflict (hash) do update set expires_at = excluded.expires_at returning expires_at as "expiresAt"`;
      if (row !== undefined) await addAuditEntry(tx, entry);
      return row?.expiresAt ?? null;
    }),
  );
}

/** Whom a ticket would sign in, with the rights of this moment. */
export type TicketHolder = Pick<SessionRow, 'userId' | 'role'>;

/** Whose ticket this is, when it is valid now. Reads. */
export async function findTicketHolder(sql: Sql, hash: Buffer): Promise<TicketHolder | null> {
  const [row] = await answered(sql<TicketHolder[]>`
    select k.user_id as "userId", k.role from sign_in_tickets t join api_keys k on k.id = t.key_id
    where t.hash = ${hash} and t.expires_at > now() and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())`);
  return row ?? null;
}

/** A session with the rights that its user or its key has now; nothing when it, or either of them, is not valid any more. */
function standing(sql: Sql | TransactionSql, hash: Buffer) {
  return sql`
    select coalesce(u.id, k.user_id) as "userId", coalesce(u.role, k.role) as role, s.key_id as "keyId", s.expires_at as "expiresAt"
    from sessions s left join users u on u.id = s.user_id left join api_keys k on k.id = s.key_id
    where s.hash = ${hash} and s.expires_at > now()
      and (u.disabled_at is null and u.id is not null or k.id is not null and k.revoked_at is null and (k.expires_at is null or k.expires_at > now()))`;
}
