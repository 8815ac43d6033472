import { answered, type Sql } from './connect.js';

/** How many wrong passwords are taken within the window. */
export interface FailureLimits {
  readonly perName: number;
  readonly inAll: number;
  readonly windowSeconds: number;
}

/**
 * Notes that a password is about to be tried, before it is, so that many at once are counted too. A repeat notes another one.
 * @param nameHash SHA-256 of the name that was given
 * @returns the number of the note, or how many seconds to wait
 */
export async function noteAttempt(
  sql: Sql,
  nameHash: Buffer,
  { perName, inAll, windowSeconds }: FailureLimits,
): Promise<{ readonly id: string } | { readonly waitSeconds: number }> {
  return answered(
    sql.begin(async (tx) => {
      await tx`select pg_advisory_xact_lock(7032, 4)`;
      await tx`delete from sign_in_failures where at <= clock_timestamp() - ${windowSeconds} * interval '1 second'`;
      const [full] = await tx<{ waitSeconds: number | null }[]>`
        select ceil(extract(epoch from max(over_at) + ${windowSeconds} * interval '1 second' - clock_timestamp()))::integer as "waitSeconds" from (
          (select at as over_at from sign_in_failures where name_hash = ${nameHash} order by at desc offset ${perName - 1} limit 1)
          union all (select at from sign_in_failures order by at desc offset ${inAll - 1} limit 1)) o`;
      if (full?.waitSeconds != null) return { waitSeconds: Math.max(1, full.waitSeconds) };
      const [row] = await tx<{ id: string }[]>`insert into sign_in_failures (name_hash) values (${nameHash}) returning id`;
      if (row === undefined) throw new Error('PostgreSQL returned no row');
      return row;
    }),
  );
}

/** The password was right: what was noted of this name is forgotten. May be repeated. */
export async function forgetAttempts(sql: Sql, nameHash: Buffer): Promise<void> {
  await answered(sql`delete from sign_in_failures where name_hash = ${nameHash}`);
}
