import type { ForecastEntry, StoredForecast } from '../contract/forecast.js';
import type { Pool } from '../contract/plan.js';
import type { ResidencyKey } from '../contract/queues.js';
import type { LineState } from '../scheduling/line-state.js';
import { answered, type Sql, type TransactionSql } from './connect.js';
import { storedJson } from './stored-json.js';

/**
 * The last forecast; null when none was made yet. Reads.
 * @param options.known the last one that was read, which is given back when there is no newer one; its entries are not sent again
 */
export async function readForecast(sql: Sql | TransactionSql, options: { readonly known?: StoredForecast | null } = {}): Promise<StoredForecast | null> {
  const known = options.known ?? null;
  const [row] = await answered(sql<{ version: string; madeAt: Date; entries: ForecastEntry[] | null }[]>`
    select version, made_at as "madeAt", case when version is distinct from ${known?.version ?? null}::bigint then entries end as entries from forecasts`);
  if (row === undefined) return null;
  if (row.entries === null) return known;
  return { version: Number(row.version), madeAt: row.madeAt, entries: row.entries };
}

/** Replaces the forecast. May be repeated; a repeat only counts the version up. @returns its version */
export async function writeForecast(sql: Sql | TransactionSql, madeAt: Date, entries: readonly ForecastEntry[]): Promise<number> {
  const [row] = await answered(sql<{ version: string }[]>`
    insert into forecasts (version, made_at, entries) values (1, ${madeAt}, ${storedJson(sql, entries)})
    on conflict (id) do update set version = forecasts.version + 1, made_at = excluded.made_at, entries = excluded.entries
    returning version`);
  return Number(row?.version);
}

/** A live row of the line, as the forecast reads it. */
export interface ForecastRow {
  readonly id: string;
  readonly attempt: number;
  readonly step: string;
  readonly pool: Pool;
  readonly key: ResidencyKey | null;
  readonly state: 'waiting' | 'granted' | 'running';
  readonly level: number;
  readonly exact: number;
  readonly place: number;
  readonly waitedMs: number;
  readonly continues: boolean;
  readonly held: boolean;
  readonly locks: readonly string[];
  /** what its task lacks; null: nothing */
  readonly lack: string | null;
  readonly host: string | null;
  readonly ranMs: number;
  readonly dueInMs: number | null;
}

/** The whole line, and what decisions about it look at. */
export interface ForecastInput extends Omit<LineState, 'tasks'> {
  readonly rows: readonly ForecastRow[];
  readonly between: readonly { readonly id: string; readonly attempt: number; readonly level: number; readonly exact: number; readonly held: boolean }[];
  /** child, parent that has not completed, whether the parent failed */
  readonly dependencies: readonly (readonly [child: string, parent: string, failed: boolean])[];
  readonly rights: readonly (readonly [name: string, taskId: string])[];
  readonly pausedModels: readonly string[];
}

/** A plan without the inputs of its steps. */
export interface PlanOutline {
  readonly id: string;
  readonly template: string;
  readonly steps: readonly { readonly id: string; readonly type: string; readonly needs: readonly string[]; readonly key: ResidencyKey | null }[];
}

/** Rows of the line that a forecast looks at. */
const rowsMax = 20_000;
/** Plans read at once. */
const plansMax = 2_000;

/** Reads the line. Takes no lock. */
export async function readForecastInput(sql: Sql | TransactionSql): Promise<ForecastInput> {
  const [row] = await answered(sql<{ input: ForecastInput }[]>`select forecast_read(${rowsMax}) as input`);
  if (row === undefined) throw new Error('PostgreSQL returned no row');
  return row.input;
}

/** Reads plans; those of unknown tasks are left out. */
export async function readPlanOutlines(sql: Sql | TransactionSql, taskIds: readonly string[]): Promise<PlanOutline[]> {
  const outlines: PlanOutline[] = [];
  for (let at = 0; at < taskIds.length; at += plansMax) {
    const [row] = await answered(sql<{ plans: PlanOutline[] }[]>`select forecast_plans(${taskIds.slice(at, at + plansMax)}::uuid[]) as plans`);
    outlines.push(...(row?.plans ?? []));
  }
  return outlines;
}

/** Reads which steps have ended, by task. */
export async function readDoneSteps(sql: Sql | TransactionSql, taskIds: readonly string[]): Promise<Map<string, Set<string>>> {
  const done = new Map<string, Set<string>>();
  if (taskIds.length === 0) return done;
  const [row] = await answered(sql<{ done: [string, string][] }[]>`select forecast_done(${taskIds as string[]}::uuid[]) as done`);
  for (const [task, step] of row?.done ?? []) done.set(task, (done.get(task) ?? new Set()).add(step));
  return done;
}

/**
 * Runs a job while no other engine makes a forecast, in one transaction.
 * @param everyMs a forecast younger than this is left as it is
 * @returns `busy` when somebody else does, or when the last forecast is too young
 */
export async function whileForecasting<T>(sql: Sql, everyMs: number, job: (tx: TransactionSql) => Promise<T>): Promise<T | 'busy'> {
  return (await answered(
    sql.begin(async (tx) => {
      const [row] = await tx<{ mine: boolean }[]>`
        select pg_try_advisory_xact_lock(7032, 6) and not exists (select 1 from forecasts where made_at > clock_timestamp() - ${everyMs} * interval '1 millisecond') as mine`;
      return row?.mine === true ? await job(tx) : 'busy';
    }),
  )) as T | 'busy';
}

/** Notes what was first predicted of steps, to be judged when they end. May be repeated; the first one stays. */
export async function promise(sql: Sql | TransactionSql, madeAt: Date, promises: readonly Promised[]): Promise<void> {
  if (promises.length === 0) return;
  await answered(sql`
    insert into forecast_promises (task_id, attempt, step, made_at, start_ms, start_sd_ms, finish_ms, finish_sd_ms)
    select p."taskId", p.attempt, p.step, ${madeAt}, p."startMs", p."startSdMs", p."finishMs", p."finishSdMs"
    from jsonb_to_recordset(${storedJson(sql, promises)}) p ("taskId" uuid, attempt integer, step text, "startMs" double precision, "startSdMs" double precision,
      "finishMs" double precision, "finishSdMs" double precision)
    where exists (select 1 from tasks t where t.id = p."taskId")
    on conflict do nothing`);
}

export interface Promised {
  readonly taskId: string;
  readonly attempt: number;
  readonly step: string;
  readonly startMs: number;
  readonly startSdMs: number;
  readonly finishMs: number;
  readonly finishSdMs: number;
}
