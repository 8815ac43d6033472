import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import postgres from 'postgres';
import { endOrphanBackends } from '../../db/server/orphan-backends.js';
import { clearStalePostmaster, clusterUrl, prepareCluster, postgresCommand } from '../../db/server/postgres-cluster.js';
import { freePort } from '../../temporal/server/server-version.js';
import { childrenOf, killQuietly } from './own-ollama.js';
import { eventually } from './servers.js';

/** A PostgreSQL of one test's own, as the product starts it, which may be killed. */
export interface OwnPostgres {
  readonly port: number;
  /** address of its `postgres` database, as its administrator */
  readonly adminUrl: string;
  /** kill -9 of the server and of every process of it */
  kill(): Promise<void>;
  /** starts it again after a kill; resolves when it answers */
  start(): Promise<void>;
  stop(): Promise<void>;
}

export async function startOwnPostgres(): Promise<OwnPostgres> {
  const home = await mkdtemp(path.join(tmpdir(), 'postgres-test-'));
  const cluster = await prepareCluster(home, () => {}, path.join(tmpdir(), 'postgres-test-system'));
  const port = await freePort();
  const adminUrl = clusterUrl(cluster, port, 'postgres');
  const { file, args, user } = postgresCommand(cluster, port);
  let child: ChildProcess | undefined;

  const start = async () => {
    await eventually(
      async () => {
        // It refuses to start while a killed process of the one before is not quite gone; the product starts it again, and so do we.
        if (child === undefined || child.exitCode !== null || child.signalCode !== null) {
          await endOrphanBackends(cluster.dataDir);
          await clearStalePostmaster(cluster.dataDir);
          child = spawn(file, args, { cwd: '/', stdio: 'ignore', ...(user ?? {}) });
        }
        const sql = postgres(adminUrl, { max: 1, connect_timeout: 2, onnotice: () => {} });
        try {
          return (await sql`select 1`).length === 1;
        } finally {
          await sql.end({ timeout: 1 });
        }
      },
      { timeoutMs: 60_000 },
    );
  };
  const kill = async () => {
    const running = child;
    child = undefined;
    if (running === undefined || running.exitCode !== null || running.signalCode !== null) return;
    const exited = once(running, 'exit');
    const pids = await childrenOf(running.pid ?? 0);
    running.kill('SIGKILL');
    for (const pid of pids) killQuietly(pid);
    await exited;
  };
  await start();
  return {
    port,
    adminUrl,
    kill,
    start,
    async stop() {
      await kill();
      await rm(path.dirname(cluster.dataDir), { recursive: true, force: true, maxRetries: 5 });
      await rm(home, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}
