import { answered, type Sql, type TransactionSql } from './connect.js';
import { storedJson } from './stored-json.js';

/** What somebody did. */
export interface AuditEntry {
  /** such as `configuration_changed` */
  readonly action: string;
  /** null: the system itself */
  readonly userId: string | null;
  /** without secrets */
  readonly details: object;
  readonly requestId?: string;
  readonly address?: string;
}

/** Adds an entry, within the transaction of the change that it tells of where there is one. A repeat adds another one. */
export async function addAuditEntry(sql: Sql | TransactionSql, { action, userId, details, requestId, address }: AuditEntry): Promise<void> {
  await sql`
    insert into audit_log (action, user_id, details, request_id, address)
    values (${action}, ${userId}, ${storedJson(sql, details)}, ${requestId ?? null}, ${address ?? null})`;
}

/** What is kept of a key's value. */
export interface KeptSetting {
  /** what may be shown */
  readonly value: unknown;
  /** where that hides something */
  readonly hash?: string;
  /** set by `orchestra up`, whatever the value */
  readonly provided?: true;
}

export type KeptSettings = Readonly<Record<string, KeptSetting>>;

/**
 * Keeps the configuration of a main's start, and adds an entry when `changes` finds something. May be repeated: the second time nothing has changed.
 * @param keep the settings as they are kept, hashed with this salt
 * @param changes what the entry says; null: nothing has changed
 */
export async function keepConfiguration(
  sql: Sql,
  main: string,
  newSalt: Buffer,
  keep: (salt: Buffer) => KeptSettings,
  changes: (before: KeptSettings, now: KeptSettings) => AuditEntry | null,
): Promise<AuditEntry | null> {
  return answered(
    sql.begin(async (tx) => {
      await tx`select pg_advisory_xact_lock(7032, 3)`;
      const [before] = await tx<{ settings: KeptSettings; salt: Buffer }[]>`select settings, salt from configurations where main = ${main}`;
      const salt = before?.salt ?? newSalt;
      const now = keep(salt);
      const entry = before === undefined ? null : changes(before.settings, now);
      await tx`
        insert into configurations (main, settings, salt) values (${main}, ${storedJson(tx, now)}, ${salt})
        on conflict (main) do update set settings = excluded.settings, seen_at = clock_timestamp()`;
      if (entry !== null) await addAuditEntry(tx, entry);
      return entry;
    }),
  );
}
