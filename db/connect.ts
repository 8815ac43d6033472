import { setTimeout as pause } from 'node:timers/promises';
import postgres from 'postgres';
import { replaceablePool } from './pool.js';

/** A pool of connections. bigint and numeric values arrive as text; JSON arrives parsed and is sent with `sql.json`. */
export type Sql = postgres.Sql;
export type TransactionSql = postgres.TransactionSql;

export interface ConnectOptions {
  /** shown in pg_stat_activity, such as `orchestra-engine` */
  readonly applicationName: string;
  /** connections at most; default 10 */
  readonly connectionsMax?: number;
  /** one statement's time on the server; default 5,000 */
  readonly statementTimeoutMs?: number;
}

/** PostgreSQL cannot be reached, or did not answer in time. Every call of db/ may be repeated after it. */
export class DatabaseUnavailable extends Error {
  override readonly name = 'DatabaseUnavailable';
  /** the server ended the statement by its time-out: it was reached, and nothing was carried out */
  readonly tooSlow: boolean;

  constructor(message: string, options: { readonly cause?: unknown; readonly tooSlow?: boolean } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.tooSlow = options.tooSlow === true;
  }
}

/** How long a call waits for its answer. Above the statement time-out, below the 10 s that a local activity of Temporal has. */
export const callDeadlineMs = 8_000;

/** After this time without a query a connection is closed. */
const idleSeconds = 3;

/** The pause before a connection that was refused is tried again. */
const reconnectSeconds = 0.2;

/** Opens a pool; no connection is made before the first query. Close it with {@link disconnect}. */
export function connect(url: string, options: ConnectOptions): Sql {
  return replaceablePool(() =>
    postgres(url, {
      max: options.connectionsMax ?? 10,
      connect_timeout: 5,
      // Whoever asks waits longer each time by himself; the driver's own pause grows to 20 s, beyond the deadline of a call.
      backoff: () => reconnectSeconds,
      // Connections are used in turn, so a longer time would keep all of them after a burst, at a few queries per second.
      idle_timeout: idleSeconds,
      onnotice: () => {},
      connection: {
        application_name: options.applicationName,
        statement_timeout: options.statementTimeoutMs ?? 5_000,
        // A process that stops inside a transaction must not keep the decision lock or a task's row.
        idle_in_transaction_session_timeout: 10_000,
      },
    }),
  );
}

/**
 * How many connections one main's pool may have, so that an api, an engine and a host with one listener each fit one server.
 * @param wanted what the configuration asks for
 */
export async function connectionsThatFit(sql: Sql, wanted: number): Promise<number> {
  const [row] = await answered(
    sql<{ room: number }[]>`select current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer as room`,
  );
  return Math.max(1, Math.min(wanted, Math.floor((row?.room ?? wanted) / mains) - othersOfMain));
}

/** Pools that share a server: api, engine and host. */
const mains = 3;
/** Connections of a main beside its pool: one that listens, and one for a migration or somebody's psql. */
const othersOfMain = 2;

/** Closes a pool. postgres.js can wait for ever for a connection that was lost, hence its time-out and ours. */
export async function disconnect(sql: Sql): Promise<void> {
  await Promise.race([sql.end({ timeout: 5 }), pause(6_000, undefined, { ref: false })]);
}

/**
 * Waits for a query or a transaction, at most `deadlineMs`: postgres.js can wait for ever for an answer after the server has restarted.
 * @throws {DatabaseUnavailable} for a lost, refused or silent connection; other errors as PostgreSQL names them
 */
export async function answered<T>(call: PromiseLike<T>, deadlineMs: number = callDeadlineMs): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new DatabaseUnavailable(`PostgreSQL did not answer within ${deadlineMs} ms`)), deadlineMs);
  });
  try {
    return await Promise.race([call, late]);
  } catch (error) {
    if (error instanceof DatabaseUnavailable || !isConnectionError(error)) throw error;
    if (isTimedOut(error)) throw new DatabaseUnavailable('PostgreSQL ended a statement that took too long', { cause: error, tooSlow: true });
    throw new DatabaseUnavailable(`PostgreSQL is not available: ${(error as Error).message}`, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Repeats a call of db/ until PostgreSQL answers. Only for calls that may be repeated.
 * @param options.patienceMs how long failures of the connection are endured, counted from the call
 * @throws the last error, when patience or the signal ends the wait; any other error at once
 */
export async function untilAvailable<T>(call: () => Promise<T>, options: { readonly patienceMs: number; readonly signal?: AbortSignal }): Promise<T> {
  const deadline = performance.now() + options.patienceMs;
  for (let waitMs = 50; ; waitMs = Math.min(2_000, waitMs * 2)) {
    try {
      return await call();
    } catch (error) {
      const passing = error instanceof DatabaseUnavailable || isConnectionError(error) || isCollision(error);
      if (!passing || options.signal?.aborted || performance.now() + waitMs > deadline) throw error;
      await pause(waitMs, undefined, options.signal ? { signal: options.signal } : {}).catch(() => undefined);
    }
  }
}

/** Whether PostgreSQL refused what it was asked (bad value, broken constraint, unknown name), so that a repeat fails alike. */
export function isBrokenRequest(error: unknown): boolean {
  return error instanceof postgres.PostgresError && /^(22|23|42)/.test(error.code);
}

/** A deadlock or a serialisation failure: the transaction has left no trace and may be repeated at once. */
function isCollision(error: unknown): boolean {
  return error instanceof postgres.PostgresError && /^40/.test(error.code);
}

/** `query_canceled`: the statement time-out, or somebody's pg_cancel_backend. */
function isTimedOut(error: unknown): boolean {
  return error instanceof postgres.PostgresError && error.code === '57014';
}

const socketErrors = new Set(['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ENOTFOUND', 'EAI_AGAIN', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH', 'ENOENT']);

/** Whether a connection was lost, refused or ended, whoever waited for it. */
export function isConnectionError(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = 'code' in error ? String(error.code) : '';
  // 08: connection, 53: out of connections, memory or disk, 57: shut down, starting up or timed out, 25P03: idle in a transaction, 55P03: lock time-out
  if (error instanceof postgres.PostgresError) return /^(08|53|57)/.test(code) || code === '25P03' || code === '55P03';
  return code.startsWith('CONNECT') || socketErrors.has(code);
}
