import postgres from 'postgres';
import type { Sql, TransactionSql } from './connect.js';

/** What is not state: leases, what servers hold at the moment, deliveries under way, and the schema's own book. */
const transient: ReadonlySet<string> = new Set([
  'migrations',
  'engines',
  'hosts',
  'residency',
  'residency_orders',
  'residency_backoff',
  'models',
  'outbox',
  // what a process started with, and what was counted
  'configurations',
  // who has signed in
  'sessions',
  'sign_in_tickets',
  'sign_in_failures',
  'metric_series',
  'metric_cursor',
  // how machines and the whole were; of the installation that was watched
  'machine_samples',
  'performance_metrics',
  'system_state',
  'alerts',
  'availability_probes',
  // counted on from the tasks that are imported
  'queue_state',
  // what tasks need is taken again with the next grant
  'holds',
  'allocations',
  'lock_wishes',
  'given_ways',
  'needing_walk',
  'key_walk',
  'resource_shares',
  // made anew within seconds; what was promised before would be judged by starts that nobody foresaw
  'forecasts',
  'forecast_entries',
  'forecast_promises',
  'forecast_cursor',
  'residency_service',
]);

/** A table that holds state, as the catalogue of PostgreSQL tells it. */
export interface StateTable {
  readonly name: string;
  readonly schema: string;
  /** without generated ones */
  readonly columns: readonly string[];
  /** numbered by PostgreSQL; at most one */
  readonly identity: string | null;
  /** rows in this order name only rows before them */
  readonly order: readonly string[];
}

/** A state's rows do not fit this database: something is there already, or was written by another schema. */
export class StateRefused extends Error {
  override readonly name = 'StateRefused';
}

/** Rows that are read and kept in memory at a time; one may have 2 MB. */
const rowsAtOnce = 50;

/** The names of the migrations that were run, in order. Reads. */
export async function appliedMigrations(sql: Sql): Promise<string[]> {
  return (await sql<{ name: string }[]>`select name from migrations order by id`).map(({ name }) => name);
}

/** Every table that holds state, each after those that its rows name. Reads. */
export async function stateTables(sql: Sql | TransactionSql): Promise<StateTable[]> {
  const tables = await sql<(StateTable & { parents: string[]; key: string[] })[]>`
    select t.relname as name, current_schema() as schema,
      (select array_agg(a.attname::text order by a.attnum) from pg_attribute a where a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = '') as columns,
      (select a.attname::text from pg_attribute a where a.attrelid = t.oid and a.attidentity <> '') as identity,
      (select coalesce(array_agg(a.attname::text order by array_position(i.indkey::int2[], a.attnum)), '{}')
        from pg_index i join pg_attribute a on a.attrelid = t.oid and a.attnum = any(i.indkey) where i.indrelid = t.oid and i.indisprimary) as key,
      (select coalesce(array_agg(distinct p.relname::text), '{}') from pg_constraint c join pg_class p on p.oid = c.confrelid where c.conrelid = t.oid and c.contype = 'f' and p.oid <> t.oid) as parents
    from pg_class t where t.relnamespace = current_schema()::regnamespace and t.relkind = 'r' order by t.relname`;
  const left = new Map(tables.filter(({ name }) => !transient.has(name)).map((table) => [table.name, table]));
  const sorted: StateTable[] = [];
  while (left.size > 0) {
    const next = [...left.values()].find(({ parents }) => !parents.some((parent) => left.has(parent)));
    if (next === undefined) throw new Error(`tables name each other in a circle: ${[...left.keys()].join(', ')}`);
    const { name, schema, columns, identity, key } = next;
    // A task may name an older one, so that age comes first.
    sorted.push({ name, schema, columns, identity, order: [...(columns.includes('created_at') ? ['created_at'] : []), ...key] });
    left.delete(name);
  }
  return sorted;
}

/**
 * Reads the whole state as of one moment, row by row, in bounded memory.
 * @param onTable called before the rows of each table
 * @param onRow the row as a JSON object on one line
 */
export async function readState(sql: Sql, onTable: (table: StateTable) => Promise<void>, onRow: (row: string) => Promise<void>): Promise<void> {
  await sql.begin('isolation level repeatable read read only', async (tx) => {
    for (const table of await stateTables(tx)) {
      await onTable(table);
      const rows = tx<{ row: string }[]>`
        select row_to_json(t)::text as row from (
          select ${names(tx, table.columns)} from ${tx(table.name)}
          ${table.name === 'line' ? tx`where state = 'done'` : tx``} order by ${names(tx, table.order)}) t`;
      for await (const batch of rows.cursor(rowsAtOnce)) for (const { row } of batch) await onRow(row);
    }
  });
}

/** Rows of one table, in the order in which they were read. */
export interface StateRows {
  readonly table: string;
  readonly rows: readonly string[];
}

/** How many rows of each table were written. */
export type WrittenState = Readonly<Record<string, number>>;

/**
 * Writes a whole state into an installation without tasks, all or nothing, and gives the tasks that have not ended to the outbox, so that
 * they go on after their last recorded step.
 * @param source rows by table; a table may come in several parts
 * @throws {StateRefused} when there are tasks already, or a table or a row is not of this schema
 */
export async function writeState(sql: Sql, source: AsyncIterable<StateRows>): Promise<WrittenState> {
  const written: Record<string, number> = {};
  try {
    await sql.begin(async (tx) => {
      await tx`select pg_advisory_xact_lock(7032, 2)`;
      const [present] = await tx<{ any: boolean }[]>`select exists (select 1 from tasks) as any`;
      if (present?.any)
        throw new StateRefused('This installation has tasks already; a state is imported only into one without any: name another ORCHESTRA_HOME or database.');
      const tables = new Map((await stateTables(tx)).map((table) => [table.name, table]));
      const numbered = new Map<string, boolean>();
      for await (const { table: name, rows } of source) {
        const table = tables.get(name);
        if (table === undefined) throw new StateRefused(`The document has a table "${name}", which this release does not know.`);
        if (!numbered.has(name)) {
          const [used] = await tx<{ any: boolean }[]>`select exists (select 1 from ${tx(name)}) as any`;
          numbered.set(name, used?.any ?? false);
        }
        written[name] = (written[name] ?? 0) + (await insertRows(tx, table, rows, numbered.get(name) === true));
      }
      await afterImport(tx, [...tables.values()]);
    });
  } catch (error) {
    // 22: a value that no column takes, 23: a row that names none or is there already
    if (error instanceof postgres.PostgresError && /^2[23]/.test(error.code))
      throw new StateRefused(`The document does not fit: ${error.message}`, { cause: error });
    throw error;
  }
  return written;
}

/** @param renumber rows get new numbers, since the table has rows of its own, such as the first administrator's key */
async function insertRows(tx: TransactionSql, table: StateTable, rows: readonly string[], renumber: boolean): Promise<number> {
  const columns = table.columns.filter((column) => !(renumber && column === table.identity));
  // With its schema, since PostgreSQL has a type of its own that is called line.
  const done = await tx`
    insert into ${tx(table.name)} (${names(tx, columns)}) overriding system value
    select ${names(tx, columns)} from jsonb_populate_recordset(null::${tx(`${table.schema}.${table.name}`)}, ${`[${rows.join(',')}]`}::text::jsonb)
    on conflict do nothing`;
  return done.count;
}

async function afterImport(tx: TransactionSql, tables: readonly StateTable[]): Promise<void> {
  for (const { name, identity } of tables) {
    if (identity === null) continue;
    await tx`select setval(pg_get_serial_sequence(${name}, ${identity}), (select greatest(coalesce(max(${tx(identity)}), 0), 1) from ${tx(name)}))`;
  }
  await tx`select setval('task_pos', (select greatest(coalesce(ceil(max(pos)), 0), 1)::bigint from tasks))`;
  await tx`update queue_state set version = greatest(version, (select coalesce(max(placed_version), 0) from tasks)), changed_at = clock_timestamp()`;
  if (tables.some(({ name, columns }) => name === 'task_events' && columns.includes('txid'))) {
    // Numbers of transactions of another cluster mean nothing here.
    await tx`update task_events set txid = 0`;
    // What was learned of these steps is imported too.
    await tx`update forecast_cursor set txid = greatest(txid, 1)`;
  }
  await tx`
    insert into outbox (kind, workflow_id, task_id, payload)
    select 'start', 'task-' || id, id, jsonb_build_object('attempt', attempt) from tasks where status in ('queued', 'running') order by pos`;
  await tx`select pg_notify('outbox', ''), pg_notify('line', '')`;
}

/** A list of names; the driver's own form for lists means something else behind `insert`. */
function names(tx: TransactionSql, columns: readonly string[]) {
  return columns.map((column, index) => (index === 0 ? tx`${tx(column)}` : tx`, ${tx(column)}`));
}
