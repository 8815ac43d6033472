import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import postgres from 'postgres';
import { connect, disconnect, type Sql } from '../db/connect.js';
import { migrate } from '../db/migrate.js';
import { readReadiness } from '../mains/process-file.js';

/** A migrated database of its own on the server of a bench installation. */
export interface ScratchDatabase {
  readonly url: string;
  readonly sql: Sql;
  drop(): Promise<void>;
}

export async function createScratchDatabase(serverUrl: string, purpose: string): Promise<ScratchDatabase> {
  const admin = postgres(serverUrl, { max: 1, onnotice: () => {} });
  const name = `${purpose}_${randomUUID().replaceAll('-', '')}`;
  await admin`create database ${admin(name)}`;
  const url = Object.assign(new URL(serverUrl), { pathname: `/${name}` }).href;
  await migrate(url, pino({ level: 'error' }));
  const sql = connect(url, { applicationName: `bench-${purpose}`, connectionsMax: 4, statementTimeoutMs: 300_000 });
  return {
    url,
    sql,
    async drop() {
      await disconnect(sql);
      await admin`drop database if exists ${admin(name)} with (force)`;
      await admin.end({ timeout: 5 });
    },
  };
}

/** The API as its own process, on a database that is not the one of an installation. */
export interface ApiProcess {
  readonly child: ChildProcess;
  readonly pid: number;
  /** without a slash at its end */
  readonly address: string;
  /** credentials of an administrator, and the type of what is sent */
  readonly headers: Readonly<Record<string, string>>;
}

export async function startApiProcess(
  home: string,
  databaseUrl: string,
  temporal: { readonly address: string; readonly namespace: string },
): Promise<ApiProcess> {
  const main = path.join(import.meta.dirname, '..', 'dist', 'cli', 'main.js');
  const env = {
    ...process.env,
    ORCHESTRA_HOME: home,
    DATABASE_URL: databaseUrl,
    TEMPORAL_ADDRESS: temporal.address,
    TEMPORAL_NAMESPACE: temporal.namespace,
    PORT: '0',
    METRICS_PORT: '0',
    LOG_LEVEL: 'ERROR',
    ORCHESTRA_PROVIDED: '', // as `orchestra up` starts it
  };
  const child = spawn(process.execPath, [main, 'api'], { env, stdio: ['ignore', 'ignore', 'inherit'] });
  let ready = await readReadiness(home, 'api');
  for (; ready?.port == null; ready = await readReadiness(home, 'api')) {
    if (child.exitCode !== null) throw new Error(`the API ended with ${child.exitCode}; its words are above`);
    await delay(100);
  }
  const key = (await readFile(path.join(home, 'admin.key'), 'utf8')).trim();
  return { child, pid: child.pid ?? 0, address: `http://127.0.0.1:${ready.port}`, headers: { 'x-api-key': key, 'content-type': 'application/json' } };
}

/** MiB of memory of processes. */
export function residentMiB(pids: readonly number[]): Promise<number[]> {
  return Promise.all(pids.map(async (pid) => Math.round(Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1_024)));
}
