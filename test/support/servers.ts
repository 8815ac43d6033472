import { randomUUID } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import postgres from 'postgres';
import { inject } from 'vitest';
import { untilAvailable } from '../../db/connect.js';
import { migratedTemplate } from './migrated-template.js';

export interface TestDatabase {
  readonly url: string;
  readonly sql: postgres.Sql;
  /** Empties tables and all that refer to them, also while what a test before has left still reads them in another order. */
  empty(...tables: readonly string[]): Promise<void>;
  /** Closes `sql` and removes the database, also when others are still connected. */
  drop(): Promise<void>;
}

/**
 * A new database with every migration applied. Each file has its own: `beforeAll(createTestDatabase)`, `afterAll(drop)`.
 * @param adminUrl of the server that it is made on; default: the one of the run
 */
export async function createTestDatabase(adminUrl = inject('servers').postgres): Promise<TestDatabase> {
  const name = `test_${randomUUID().replaceAll('-', '')}`;
  await asAdmin(adminUrl, async (admin) => admin`create database ${admin(name)} template ${admin(await migratedTemplate(adminUrl))}`);
  const url = new URL(adminUrl);
  url.pathname = `/${name}`;
  const sql = postgres(url.href, { max: 10, onnotice: () => {} });
  return {
    url: url.href,
    sql,
    async empty(...tables) {
      await untilAvailable(() => sql`truncate ${sql(tables)} cascade`, { patienceMs: 10_000 });
    },
    async drop() {
      await sql.end({ timeout: 5 });
      await asAdmin(adminUrl, (admin) => admin`drop database if exists ${admin(name)} with (force)`);
    },
  };
}

async function asAdmin<T>(url: string, use: (admin: postgres.Sql) => PromiseLike<T>): Promise<T> {
  const admin = postgres(url, { max: 1, onnotice: () => {} });
  try {
    return await use(admin);
  } finally {
    await admin.end({ timeout: 5 });
  }
}

/**
 * A Temporal namespace that no other file of this run uses.
 * @throws when the pool is used up
 */
export function takeNamespace(): string {
  const { namespaces, home } = inject('servers');
  mkdirSync(path.join(home, 'namespaces'), { recursive: true });
  for (const namespace of namespaces) {
    if (claimed(path.join(home, 'namespaces', namespace))) return namespace;
  }
  throw new Error(`All ${namespaces.length} Temporal namespaces are taken; the pool is in test/support/server-keeper.ts or in TEST_USE_SERVERS.`);
}

/** Creating a directory either succeeds for one process or fails, so it is the claim. */
function claimed(directory: string): boolean {
  try {
    mkdirSync(directory);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/** Where PostgreSQL answers. */
export function postgresAddress(): { host: string; port: number } {
  const { hostname, port } = new URL(inject('servers').postgres);
  return { host: hostname, port: Number(port) };
}

/** host:port of the Temporal server. */
export function temporalAddress(): string {
  return inject('servers').temporal;
}

/**
 * Base URL of the Ollama server; it has no models until a test creates one, and holds one at a time in memory.
 * @throws when this machine has none, saying why
 */
export function ollamaAddress(): string {
  const { ollama } = inject('servers');
  if (typeof ollama === 'string') return ollama;
  throw new Error(`This test needs Ollama. ${ollama.missing}`);
}

/**
 * Waits until a condition holds; the one way in which tests wait for something they get no event of.
 * @param check is asked again while it throws or returns false, null or undefined; an assertion alone returns undefined, so return a value
 * @param options.timeoutMs default 20,000
 * @returns what `check` returned at last
 */
export async function eventually<T>(check: () => T | Promise<T>, options: { timeoutMs?: number } = {}): Promise<Exclude<T, false | null | undefined>> {
  const timeoutMs = options.timeoutMs ?? 20_000;
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    let seen: unknown;
    try {
      const value = await check();
      if (value !== false && value !== null && value !== undefined) return value as Exclude<T, false | null | undefined>;
      seen = new Error(`the condition returned ${String(value)}`);
    } catch (error) {
      seen = error;
    }
    if (Date.now() > deadline) throw new Error(`Not within ${timeoutMs} ms: ${seen instanceof Error ? seen.message : String(seen)}`, { cause: seen });
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
