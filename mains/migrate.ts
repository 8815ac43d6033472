import { ConfigFault, loadConfig } from '../config.js';
import { migrate } from '../db/migrate.js';
import { postgresAnswers, withoutPassword } from '../db/server/provide-postgres.js';
import { createLogger } from '../logging.js';
import { databaseUrl } from './parts.js';
import { StartFault } from './run-main.js';

/** `orchestra migrate`: for those who want the schema changed before anything starts. */
export async function runMigrate(): Promise<void> {
  try {
    const config = loadConfig();
    const url = databaseUrl(config);
    if (!(await postgresAnswers(url))) throw new StartFault(`The PostgreSQL at ${withoutPassword(url)} does not answer: start it, or correct DATABASE_URL.`);
    const names = await migrate(url, createLogger(config.logging, 'migrate'));
    process.stdout.write(names.length === 0 ? 'The database is up to date.\n' : `Migrated: ${names.join(', ')}.\n`);
  } catch (error) {
    process.stderr.write(`orchestra migrate: ${error instanceof Error ? error.message || String((error as NodeJS.ErrnoException).code) : String(error)}\n`);
    process.exitCode = error instanceof ConfigFault ? 2 : 1;
  }
}
