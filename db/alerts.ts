import { answered, type Sql } from './connect.js';
import { storedJson } from './stored-json.js';

/** A rule that holds for a subject. */
export interface AlertFinding {
  readonly rule: string;
  readonly subject: string;
  /** one sentence for people */
  readonly message: string;
  readonly value: number;
  readonly threshold: number;
}

export interface AlertRow extends AlertFinding {
  readonly firedAt: Date;
  /** null: it holds */
  readonly clearedAt: Date | null;
}

const shownMax = 200;

/** Makes the alerts that hold those that were found. @returns what fired and what cleared now; neither is returned again */
export async function settleAlerts(
  sql: Sql,
  found: readonly AlertFinding[],
): Promise<{ fired: AlertFinding[]; cleared: Pick<AlertFinding, 'rule' | 'subject'>[] }> {
  return answered(
    sql.begin(async (tx) => {
      await tx`select pg_advisory_xact_lock(7032, 9)`;
      const cleared = await tx<{ rule: string; subject: string }[]>`
        update alerts a set cleared_at = clock_timestamp() where cleared_at is null
          and not exists (select 1 from jsonb_array_elements(${storedJson(tx, found)}) f where f ->> 'rule' = a.rule and f ->> 'subject' = a.subject) returning rule, subject`;
      const fired = await tx<AlertFinding[]>`
        insert into alerts (rule, subject, message, value, threshold)
        select f ->> 'rule', f ->> 'subject', f ->> 'message', (f ->> 'value')::float8, (f ->> 'threshold')::float8 from jsonb_array_elements(${storedJson(tx, found)}) f
        on conflict (rule, subject) where cleared_at is null do nothing returning rule, subject, message, value, threshold`;
      return { fired: [...fired], cleared: [...cleared] };
    }),
  );
}

/** Alerts, those that hold first, then the latest. Reads. */
export async function listAlerts(sql: Sql): Promise<AlertRow[]> {
  return answered(sql<AlertRow[]>`
    select rule, subject, message, value, threshold, fired_at as "firedAt", cleared_at as "clearedAt" from alerts
    order by cleared_at is null desc, fired_at desc, id desc limit ${shownMax}`);
}
