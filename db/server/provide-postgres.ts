import { setTimeout as delay } from 'node:timers/promises';
import postgres from 'postgres';
import { type PostgresCluster, PostgresUnavailable, type Say, clusterUrl, prepareCluster } from './postgres-cluster.js';

export interface ProvidePostgresOptions {
  /** DATABASE_URL, or null to have our own server */
  readonly url: string | null;
  /** the installation's directory; absolute, exists */
  readonly home: string;
  readonly say: Say;
}

/** A server of somebody else, or a cluster to serve with `postgresCommand`. */
export type PostgresProvision = { readonly kind: 'foreign'; readonly url: string } | { readonly kind: 'own'; readonly cluster: PostgresCluster };

/**
 * The first of DATABASE_URL and the PostgreSQL that npm installed.
 * @throws {PostgresUnavailable} when a foreign server does not answer or is older than 15, or our own cannot be made
 */
export async function providePostgres({ url, home, say }: ProvidePostgresOptions): Promise<PostgresProvision> {
  if (url !== null) {
    const version = await serverVersion(url);
    say(`PostgreSQL: ${withoutPassword(url)}, server ${version}, since DATABASE_URL names it`);
    return { kind: 'foreign', url };
  }
  const cluster = await prepareCluster(home, say);
  say(`PostgreSQL: embedded, data in ${cluster.dataDir}`);
  return { kind: 'own', cluster };
}

async function serverVersion(url: string): Promise<string> {
  const sql = postgres(url, { max: 1, connect_timeout: 10, onnotice: () => {} });
  try {
    const [row] = await sql<
      { version: string; number: number }[]
    >`select current_setting('server_version') as version, current_setting('server_version_num')::int as number`;
    if (row === undefined || row.number < 150_000) {
      throw new PostgresUnavailable(
        `The PostgreSQL at ${withoutPassword(url)} is ${row?.version}; 15 or later is needed: upgrade it, or unset DATABASE_URL to have one started.`,
      );
    }
    return row.version;
  } catch (error) {
    if (error instanceof PostgresUnavailable) throw error;
    throw new PostgresUnavailable(
      `The PostgreSQL at ${withoutPassword(url)} (DATABASE_URL) does not answer: start it, or unset DATABASE_URL to have one started.`,
      { cause: error },
    );
  } finally {
    await sql.end({ timeout: 5 });
  }
}

/** An address that may be shown. */
export function withoutPassword(url: string): string {
  try {
    const parsed = new URL(url);
    return `${parsed.hostname}${parsed.port === '' ? '' : `:${parsed.port}`}${parsed.pathname}`;
  } catch {
    return 'the address of DATABASE_URL';
  }
}

/** Whether a server takes connections at this address now. */
export async function postgresAnswers(url: string): Promise<boolean> {
  const sql = postgres(url, { max: 1, connect_timeout: 3, onnotice: () => {} });
  try {
    await sql`select 1`;
    return true;
  } catch (error) {
    // Our database is made after the first start.
    return error instanceof Error && 'code' in error && error.code === '3D000';
  } finally {
    await sql.end({ timeout: 1 });
  }
}

/**
 * Makes our database in our own cluster when it is missing, once the server answers.
 * @returns its address
 * @throws {PostgresUnavailable} when the server does not answer within `timeoutMs`
 */
export async function ensureDatabase(cluster: PostgresCluster, port: number, timeoutMs = 30_000): Promise<string> {
  const url = clusterUrl(cluster, port);
  const deadlineMs = performance.now() + timeoutMs;
  while (!(await postgresAnswers(url))) {
    if (performance.now() > deadlineMs) throw new PostgresUnavailable(`PostgreSQL does not answer on port ${port}: its log says why.`);
    await delay(100);
  }
  const name = new URL(url).pathname.slice(1);
  const sql = postgres(clusterUrl(cluster, port, 'postgres'), { max: 1, onnotice: () => {} });
  try {
    const rows = await sql`select 1 from pg_database where datname = ${name}`;
    if (rows.length === 0) await sql`create database ${sql(name)}`;
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === '42P04')) throw error; // another starter was first
  } finally {
    await sql.end({ timeout: 5 });
  }
  return url;
}
