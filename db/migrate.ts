import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { runner } from 'node-pg-migrate';
import type { Logger } from 'pino';

const packageName = 'ai-task-orchestra';

/**
 * Brings a database to the present schema. Safe with several starters at once: the others wait for the first and find nothing to do.
 * Each migration is one transaction.
 * @returns the names of the migrations that this call has run, in order
 */
export async function migrate(url: string, log: Logger): Promise<string[]> {
  const done = await runner({
    databaseUrl: { connectionString: url, application_name: 'orchestra-migrate', connectionTimeoutMillis: 10_000 },
    dir: migrationsFolder(),
    migrationsTable: 'migrations',
    direction: 'up',
    checkOrder: true,
    singleTransaction: false, // a migration wraps itself; a later failure keeps the earlier ones
    advisoryLockMode: 'wait',
    logger: { debug: (text) => log.debug(text), info: (text) => log.debug(text), warn: (text) => log.warn(text), error: (text) => log.error(text) },
  });
  const names = done.map((migration) => migration.name);
  if (names.length > 0) log.info({ migrations: names }, 'database migrated');
  return names;
}

/** db/migrations of this package; the compiled files in dist/ have no copy of it, so it is found from the package's root. */
export function migrationsFolder(from: string = import.meta.dirname): string {
  for (let folder = from; ; folder = path.dirname(folder)) {
    const file = path.join(folder, 'package.json');
    if (existsSync(file) && (JSON.parse(readFileSync(file, 'utf8')) as { name?: string }).name === packageName) return path.join(folder, 'db', 'migrations');
    if (path.dirname(folder) === folder) throw new Error(`No package.json of ${packageName} above ${from}; the installation is not complete.`);
  }
}
