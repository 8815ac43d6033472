import type { Config } from '../config.js';
import { connect, type Sql } from '../db/connect.js';
import { clusterUrl, prepareCluster } from '../db/server/postgres-cluster.js';
import { postgresAnswers, withoutPassword } from '../db/server/provide-postgres.js';
import { isLive, readProcessFile } from './process-file.js';
import { StartFault } from './run-main.js';

/**
 * Connects to the database of the installation on this machine, for commands that need no API.
 * @throws {StartFault} a sentence for the person, when it does not run
 */
export async function connectLocal(config: Config, options: Parameters<typeof connect>[1]): Promise<Sql> {
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
  const file = await readProcessFile(config.home, 'temporal');
  if (config.temporal.address !== null || file === null || file.port === null || !(await isLive(file))) return { ...config, database };
  return { ...config, database, temporal: { ...config.temporal, address: `127.0.0.1:${file.port}` } };
}

/** The address of the embedded PostgreSQL, which runs while the installation does. */
async function ownDatabase(config: Config): Promise<string> {
  const file = await readProcessFile(config.home, 'postgres');
  if (file === null || file.port === null || !(await isLive(file))) {
    throw new StartFault(`No installation runs in ${config.home}: start it with \`orchestra up\`, or name its database with DATABASE_URL.`);
  }
  return clusterUrl(await prepareCluster(config.home, () => {}), file.port);
}
