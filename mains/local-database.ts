import { type Config, ConfigFault, loadConfig } from '../config.js';
import { visibleText } from '../contract/visible.js';
import { connect, disconnect, type Sql } from '../db/connect.js';
import { clusterUrl, prepareCluster } from '../db/server/postgres-cluster.js';
import { postgresAnswers, withoutPassword } from '../db/server/provide-postgres.js';
import { livePort } from './process-file.js';
import { StartFault } from './run-main.js';

export interface LocalCommand {
  /** as it is typed, for messages */
  readonly name: string;
  readonly connection: Parameters<typeof connect>[1];
  /** what is looked at before the database is opened */
  readonly check?: (() => Promise<void>) | null;
  /** Exit code of a fault whose message is a sentence for the person; undefined: nobody has thought of it. */
  readonly exitCodeOf: (error: unknown) => number | undefined;
}

/** Runs a command on the database of the installation on this machine, and says what went wrong in one sentence, with an exit code of its own. */
export async function onLocalDatabase({ name, connection, check, exitCodeOf }: LocalCommand, work: (config: Config, sql: Sql) => Promise<void>): Promise<void> {
  let sql: Sql | undefined;
  try {
    await check?.();
    const config = loadConfig();
    sql = await connectLocal(config, connection);
    await work(config, sql);
  } catch (error) {
    const code = error instanceof ConfigFault ? 2 : error instanceof StartFault ? 1 : exitCodeOf(error);
    const message = error instanceof Error ? (code === undefined ? `${error.name}: ${error.message}` : error.message) : String(error);
    process.stderr.write(`orchestra ${name}: ${visibleText(message)}\n`);
    process.exitCode = code ?? 1;
  } finally {
    if (sql !== undefined) await disconnect(sql);
  }
}

/** @throws {StartFault} a sentence for the person, when it does not run */
async function connectLocal(config: Config, options: Parameters<typeof connect>[1]): Promise<Sql> {
  const url = config.database.url ?? (await ownDatabase(config));
  if (!(await postgresAnswers(url))) throw new StartFault(`The PostgreSQL at ${withoutPassword(url)} does not answer: start it, or correct DATABASE_URL.`);
  return connect(url, options);
}

/**
 * The configuration of a main that is started beside the installation of this machine: what it does not name is where that one has it.
 * @throws {StartFault} a sentence for the person, when no database is named and none of this home runs
 */
export async function besideLocal(config: Config): Promise<Config> {
  if (config.database.url !== null) return config;
  const database = { ...config.database, url: await ownDatabase(config) };
  const port = config.temporal.address === null ? await livePort(config.home, 'temporal') : null;
  return port === null ? { ...config, database } : { ...config, database, temporal: { ...config.temporal, address: `127.0.0.1:${port}` } };
}

/** The address of the embedded PostgreSQL, which runs while the installation does. */
async function ownDatabase(config: Config): Promise<string> {
  const port = await livePort(config.home, 'postgres');
  if (port === null) throw new StartFault(`No installation runs in ${config.home}: start it with \`orchestra up\`, or name its database with DATABASE_URL.`);
  return clusterUrl(await prepareCluster(config.home, () => {}), port);
}
