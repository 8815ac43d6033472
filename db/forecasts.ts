import type { ForecastEntry, StoredForecast } from '../contract/forecast.js';
import { answered, type Sql } from './connect.js';
import { storedJson } from './stored-json.js';

/**
 * The last forecast; null when none was made yet. Reads.
 * @param options.known the last one that was read, which is given back when there is no newer one; its entries are not sent again
 */
export async function readForecast(sql: Sql, options: { readonly known?: StoredForecast | null } = {}): Promise<StoredForecast | null> {
  const known = options.known ?? null;
  const [row] = await answered(sql<{ version: string; madeAt: Date; entries: ForecastEntry[] | null }[]>`
    select version, made_at as "madeAt", case when version is distinct from ${known?.version ?? null}::bigint then entries end as entries from forecasts`);
  if (row === undefined) return null;
  if (row.entries === null) return known;
  return { version: Number(row.version), madeAt: row.madeAt, entries: row.entries };
}

/** Replaces the forecast. May be repeated; a repeat only counts the version up. @returns its version */
export async function writeForecast(sql: Sql, madeAt: Date, entries: readonly ForecastEntry[]): Promise<number> {
  const [row] = await answered(sql<{ version: string }[]>`
    insert into forecasts (version, made_at, entries) values (1, ${madeAt}, ${storedJson(sql, entries)})
    on conflict (id) do update set version = forecasts.version + 1, made_at = excluded.made_at, entries = excluded.entries
    returning version`);
  return Number(row?.version);
}
