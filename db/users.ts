import type { Role } from '../contract/roles.js';
import { type AuditEntry, addAuditEntry } from './audit.js';
import { answered, type Sql, type TransactionSql } from './connect.js';

/** Somebody who signs in with a password, without it. */
export interface UserRow {
  readonly id: string;
  readonly role: Role;
  readonly createdAt: Date;
  /** null: may sign in */
  readonly disabledAt: Date | null;
}

export interface NewUser {
  readonly id: string;
  readonly role: Role;
  /** its hash as text, see service/password.ts */
  readonly password: string;
}

/** What is not named stays as it is. */
export interface UserChange {
  readonly role?: Role | undefined;
  /** its hash as text */
  readonly password?: string | undefined;
  readonly disabled?: boolean | undefined;
}

const columns = (sql: Sql | TransactionSql) => sql`id, role, created_at as "createdAt", disabled_at as "disabledAt"`;

/** The user of this id, with the hash of the password. Reads. */
export async function findUser(sql: Sql, id: string): Promise<(UserRow & { readonly password: string }) | null> {
  const [row] = await answered(sql<(UserRow & { password: string })[]>`select ${columns(sql)}, password from users where id = ${id}`);
  return row ?? null;
}

/** Every user, by name. Reads. */
export async function listUsers(sql: Sql): Promise<UserRow[]> {
  return answered(sql<UserRow[]>`select ${columns(sql)} from users order by id`);
}

/** Adds a user. Null: there is one of this name. A repeat finds the first one. */
export async function insertUser(sql: Sql, user: NewUser, entry: AuditEntry): Promise<UserRow | null> {
  return answered(
    sql.begin(async (tx) => {
      const [row] = await tx<UserRow[]>`
        insert into users (id, role, password) values (${user.id}, ${user.role}, ${user.password}) on conflict (id) do nothing
        returning ${columns(tx)}`;
      if (row !== undefined) await addAuditEntry(tx, entry);
      return row ?? null;
    }),
  );
}

/**
 * Changes a user; another password and disabling end what is signed in. May be repeated. Null: no such user.
 * @param keep the session that stays, as the first 12 hexadecimal digits of its hash
 */
export async function changeUser(sql: Sql, id: string, change: UserChange, keep: string | null, entry: AuditEntry): Promise<UserRow | null> {
  const { role = null, password = null, disabled = null } = change;
  return answered(
    sql.begin(async (tx) => {
      const [row] = await tx<UserRow[]>`
        update users set role = coalesce(${role}, role), password = coalesce(${password}, password),
          disabled_at = case when ${disabled}::boolean is null then disabled_at when ${disabled}::boolean then coalesce(disabled_at, now()) end
        where id = ${id} returning ${columns(tx)}`;
      if (row === undefined) return null;
      if (password !== null || disabled === true)
        await tx`delete from sessions where user_id = ${id} and left(encode(hash, 'hex'), 12) is distinct from ${keep}`;
      await addAuditEntry(tx, entry);
      return row;
    }),
  );
}

/** Removes a user and what is signed in; tasks and API keys stay. May be repeated. False: no such user. */
export async function removeUser(sql: Sql, id: string, entry: AuditEntry): Promise<boolean> {
  return answered(
    sql.begin(async (tx) => {
      const done = await tx`delete from users where id = ${id}`;
      if (done.count === 1) await addAuditEntry(tx, entry);
      return done.count === 1;
    }),
  );
}
