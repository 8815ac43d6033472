import { setImmediate } from 'node:timers/promises';
import type { ForecastEntry, StoredForecast } from '../contract/forecast.js';
import type { Needs } from '../contract/holds.js';
import type { Pool } from '../contract/plan.js';
import type { ResidencyKey } from '../contract/queues.js';
import type { JsonObject } from '../contract/json.js';
import type { LineState } from '../scheduling/line-state.js';
import type { KeyCost } from '../scheduling/policy.js';
import { answered, type Sql, type TransactionSql } from './connect.js';
import { changesMemory, type Fetching, keysFetching } from './fetching.js';
import { entriesOfText, textOfEntries } from './forecast-text.js';
import { storedJson } from './stored-json.js';

/** Entries in one text. */
const chunkEntries = 500;

/**
 * The last forecast; null when none was made yet. Reads.
 * @param options.known the last one that was read, which is given back when there is no newer one; its entries are not sent again
 */
export async function readForecast(sql: Sql | TransactionSql, options: { readonly known?: StoredForecast | null } = {}): Promise<StoredForecast | null> {
  const known = options.known ?? null;
  const chunks = await answered(sql<{ version: string; madeAt: Date; chunks: number; text: string | null }[]>`
    select f.version, f.made_at as "madeAt", f.chunks, e.entries as text
    from forecasts f left join forecast_entries e on f.version is distinct from ${known?.version ?? null}::bigint order by e.chunk`);
  const [first] = chunks;
  if (first === undefined) return null;
  const version = Number(first.version);
  if (version === known?.version) return known;
  const texts = chunks.flatMap(({ text }) => text ?? []);
  if (texts.length < first.chunks) return null; // entries do not outlive a crash of the database
  const entries: ForecastEntry[] = [];
  for (const text of texts) {
    entries.push(...entriesOfText(text));
    await setImmediate(); // a long one keeps nobody waiting
  }
  return { version, madeAt: first.madeAt, entries };
}

/** Replaces the forecast. May be repeated; a repeat only counts the version up. @returns its version */
export async function writeForecast(sql: Sql | TransactionSql, madeAt: Date, entries: readonly ForecastEntry[]): Promise<number> {
  const texts: string[] = [];
  for (let at = 0; at < entries.length; at += chunkEntries) {
    texts.push(textOfEntries(entries.slice(at, at + chunkEntries)));
    await setImmediate();
  }
  const [row] = await answered(sql<{ version: string }[]>`select forecast_write(${madeAt}, ${texts}::text[]) as version`);
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
  /** whether its task needs locks or parts of pools */
  readonly needsSome: boolean;
  /** what its task lacks; null: nothing */
  readonly lack: string | null;
  readonly host: string | null;
  readonly ranMs: number;
  readonly dueInMs: number | null;
}

/** A row as it is sent. */
type SentRow = [
  id: string,
  attempt: number,
  step: string,
  pool: Pool,
  key: ResidencyKey | null,
  state: ForecastRow['state'],
  level: number,
  exact: number,
  place: number,
  waitedMs: number,
  continues: boolean,
  held: boolean,
  locks: readonly string[] | null,
  lack: string | null,
  host: string | null,
  ranMs: number,
  dueInMs: number | null,
];

/** The whole line, and what decisions about it look at. */
export interface ForecastInput extends Omit<LineState, 'tasks'> {
  readonly rows: readonly ForecastRow[];
  /** parts of resource pools that tasks have to be given with their first grant; empty where {@link pools} is null */
  readonly needs: readonly (readonly [taskId: string, Needs['amounts']])[];
  /** parts that tasks hold; empty where {@link pools} is null */
  readonly held: readonly (readonly [taskId: string, Needs['amounts']])[];
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
/** Rows in one text. */
const chunkRows = 500;
/** A forecast of a long line takes seconds on a busy machine, and each of its calls is waited for by itself. */
const forecastingMs = 60_000;
/** Promises written at once. */
const promisesMax = 500;
/** Plans read at once. */
const plansMax = 500;

/**
 * Reads the line. Takes no lock.
 * @param options.pools what there is of resource pools is wanted, also where nothing in the line needs any
 */
export async function readForecastInput(sql: Sql | TransactionSql, options: { readonly pools?: boolean } = {}): Promise<ForecastInput> {
  const [read] = await answered(
    sql<
      { state: Omit<ForecastInput, 'rows' | 'needs' | 'held' | 'pools'>; fetching: Fetching[] }[]
    >`select forecast_state() as state, fetching_now() as fetching`,
  );
  if (read === undefined) throw new Error('PostgreSQL returned no row');
  const { state, fetching } = read;
  const rows: ForecastRow[] = [];
  for (const { text } of await answered(sql<{ text: string }[]>`select forecast_rows(${rowsMax}, ${chunkRows}) as text`)) {
    rows.push(...(JSON.parse(text) as SentRow[]).map(rowOf));
    await setImmediate(); // a long line keeps nobody waiting
  }
  const keys = new Set(fetching.length === 0 ? [] : rows.flatMap(({ key }) => key ?? []));
  const backingOff = [...state.backingOff, ...keysFetching(fetching, keys)];
  const wanted = options.pools === true || rows.some((row) => row.state === 'waiting' && row.needsSome);
  const pools = wanted ? await readPools(sql) : { needs: [], held: [], pools: null };
  return { ...state, openOrders: state.openOrders.filter(changesMemory), backingOff, rows, ...pools };
}

/** What there is of resource pools, who holds parts of them and who waits for some; asked for only where somebody may wait for such. */
async function readPools(sql: Sql | TransactionSql): Promise<Pick<ForecastInput, 'needs' | 'held' | 'pools'>> {
  const [row] = await answered(sql<{ pools: Pick<ForecastInput, 'needs' | 'held' | 'pools'> }[]>`
    with held as materialized (select (held_now()).*)
    select jsonb_build_object(
      'pools', (select coalesce(jsonb_agg(p.value || jsonb_build_object('pool', p.key)), '[]') from jsonb_each(h.pools) p),
      'needs', (select coalesce(jsonb_agg(jsonb_build_array(n.task_id, n.amounts)), '[]') from (
        select distinct on (l.task_id) l.task_id, l.amounts from line l
        where l.state = 'waiting' and l.locks is not null and l.amounts <> '{}' and not l.task_id = any(h.holders) order by l.task_id, l.id limit ${rowsMax}) n),
      'held', (select coalesce(jsonb_agg(jsonb_build_array(a.task_id, a.amounts)), '[]') from (
        select task_id, jsonb_object_agg(pool, amount) as amounts from allocations group by task_id) a)) as pools
    from held h`);
  if (row === undefined) throw new Error('PostgreSQL returned no row');
  return row.pools;
}

/** Parts of pools that a request for a task asks for. Reads. */
export async function readRequiredAmounts(sql: Sql | TransactionSql, requirements: JsonObject): Promise<Needs['amounts']> {
  const [row] = await answered(sql<{ amounts: Needs['amounts'] | null }[]>`select required_amounts(${sql.json(requirements)}) as amounts`);
  return row?.amounts ?? {};
}

function rowOf([id, attempt, step, pool, key, state, level, exact, place, waitedMs, continues, held, locks, lack, host, ranMs, dueInMs]: SentRow): ForecastRow {
  return {
    id,
    attempt,
    step,
    pool,
    key,
    state,
    level,
    exact,
    place,
    waitedMs,
    continues,
    held,
    locks: locks ?? [],
    needsSome: locks !== null,
    lack,
    host,
    ranMs,
    dueInMs,
  };
}

/** Where a waiting row of a task stands. */
export type RowStanding = Pick<ForecastRow, 'step' | 'level' | 'exact' | 'waitedMs'>;

/** Where the waiting rows of a task stand. Reads. */
export async function readStanding(sql: Sql | TransactionSql, taskId: string): Promise<RowStanding[]> {
  return answered(sql<RowStanding[]>`
    select step, level, exact, greatest(0, floor(extract(epoch from clock_timestamp() - entered_at) * 1000))::double precision as "waitedMs"
    from line where task_id = ${taskId} and state = 'waiting'`);
}

/** Reads what it costs to have models in memory, on each host that may have them; the line's own are in {@link ForecastInput} already. */
export async function readKeyCosts(sql: Sql | TransactionSql, keys: readonly ResidencyKey[]): Promise<KeyCost[]> {
  if (keys.length === 0) return [];
  return answered(sql<KeyCost[]>`select host, key, load_ms as "loadMs", bytes::double precision as bytes from costs_of(${keys as string[]}::text[])`);
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
    forecastingMs,
  )) as T | 'busy';
}

/** Notes what was first predicted of steps, to be judged when they end. May be repeated; the first one stays. */
export async function promise(sql: Sql | TransactionSql, madeAt: Date, promises: readonly Promised[]): Promise<void> {
  for (let at = 0; at < promises.length; at += promisesMax) {
    await answered(sql`
      insert into forecast_promises (task_id, attempt, step, made_at, start_ms, start_sd_ms, finish_ms, finish_sd_ms)
      select p."taskId", p.attempt, p.step, ${madeAt}, p."startMs", p."startSdMs", p."finishMs", p."finishSdMs"
      from jsonb_to_recordset(${storedJson(sql, promises.slice(at, at + promisesMax))}) p ("taskId" uuid, attempt integer, step text, "startMs" double precision,
        "startSdMs" double precision, "finishMs" double precision, "finishSdMs" double precision)
      where exists (select 1 from tasks t where t.id = p."taskId")
      on conflict do nothing`);
  }
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
