import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import postgres from 'postgres';
import { afterAll, expect, onTestFinished, test } from 'vitest';
import { endOrphanBackends } from '../../../db/server/orphan-backends.js';
import {
  clearStalePostmaster,
  clusterUrl,
  postgresCommand,
  prepareCluster,
  type PostgresCluster,
  PostgresUnavailable,
} from '../../../db/server/postgres-cluster.js';
import { killQuietly } from '../../support/own-ollama.js';
import { ensureDatabase, providePostgres } from '../../../db/server/provide-postgres.js';

const folders: string[] = [];
afterAll(() => Promise.all(folders.map((folder) => rm(folder, { recursive: true, force: true }))));

/** A home, and a stand-in for /var/lib that the server's user can reach. */
async function places(homeMode: number): Promise<{ home: string; systemDir: string }> {
  const [parent, systemDir] = await Promise.all([mkdtemp(join(tmpdir(), 'orchestra-home-')), mkdtemp(join(tmpdir(), 'orchestra-var-'))]);
  folders.push(parent, systemDir);
  await Promise.all([chmod(parent, homeMode), chmod(systemDir, 0o711)]);
  const home = join(parent, 'home');
  await mkdir(home, { mode: 0o755 });
  return { home, systemDir };
}

async function anyPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

async function serve(cluster: PostgresCluster): Promise<{ process: ChildProcess; port: number }> {
  const port = await anyPort();
  const { file, args, user } = postgresCommand(cluster, port);
  const child = spawn(file, args, { stdio: 'ignore', cwd: '/', ...(user ?? {}) });
  onTestFinished(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGINT');
    await once(child, 'exit');
  });
  return { process: child, port };
}

test.each([
  ['that everybody may pass', 0o755],
  ['that only its owner may enter', 0o700],
])(
  'a database is made and served below a folder %s, as root too',
  async (_case, mode) => {
    const { home, systemDir } = await places(mode);
    const said: string[] = [];
    const cluster = await prepareCluster(home, (line) => said.push(line), systemDir);
    const { port } = await serve(cluster);
    const url = await ensureDatabase(cluster, port);
    const sql = postgres(url, { max: 1 });
    onTestFinished(() => sql.end({ timeout: 1 }));
    const [row] = await sql<{ version: string; encoding: string; connections: string }[]>`
    select current_setting('server_version') as version, current_setting('server_encoding') as encoding, current_setting('max_connections') as connections`;
    expect(row).toMatchObject({ version: expect.stringMatching(/^18/), encoding: 'UTF8', connections: '200' });
    if (process.getuid?.() === 0 && mode === 0o700) {
      expect(cluster.dataDir.startsWith(systemDir)).toBe(true);
      expect((await readFile(join(home, 'postgres', 'location'), 'utf8')).trim()).toBe(join(cluster.dataDir, '..'));
      expect(said.join('\n')).toContain(systemDir);
    } else {
      expect(cluster.dataDir).toBe(join(home, 'postgres', 'data'));
    }
  },
  60_000,
);

test('the password is kept from others, asked for, and the same at the next start, as is the data', async () => {
  const { home, systemDir } = await places(0o755);
  const first = await prepareCluster(home, () => {}, systemDir);
  expect((await stat(join(home, 'postgres', 'password'))).mode & 0o777).toBe(0o600);
  const again = await prepareCluster(home, () => {}, systemDir);
  expect(again).toEqual(first);
  const { port } = await serve(again);
  const url = await ensureDatabase(again, port);
  const wrong = postgres(url.replace(again.password, 'wrong'), { max: 1 });
  onTestFinished(() => wrong.end({ timeout: 1 }));
  await expect(wrong`select 1`).rejects.toMatchObject({ code: '28P01' });
}, 60_000);

test('a kill -9 leaves a cluster that starts again with what was committed [fault-35]', async () => {
  const { home, systemDir } = await places(0o755);
  const cluster = await prepareCluster(home, () => {}, systemDir);
  const one = await serve(cluster);
  const sql = postgres(await ensureDatabase(cluster, one.port), { max: 1 });
  await sql`create table kept (n int)`;
  await sql`insert into kept values (1)`;
  await sql.end({ timeout: 1 });
  one.process.kill('SIGKILL');
  await once(one.process, 'exit');
  expect(await clearStalePostmaster(cluster.dataDir)).toBe(true);
  const two = await serve(await prepareCluster(home, () => {}, systemDir));
  const after = postgres(await ensureDatabase(cluster, two.port), { max: 1 });
  onTestFinished(() => after.end({ timeout: 1 }));
  expect(await after`select n from kept`).toEqual([{ n: 1 }]);
}, 60_000);

test('a process that its postmaster has left, and that cannot end, keeps no server from starting [fault-35]', async () => {
  const { home, systemDir } = await places(0o755);
  const cluster = await prepareCluster(home, () => {}, systemDir);
  const one = await serve(cluster);
  const sql = postgres(await ensureDatabase(cluster, one.port), { max: 1 });
  const [backend] = await sql<{ pid: number }[]>`select pg_backend_pid() as pid`;
  if (backend === undefined) throw new Error('no backend');
  expect(await endOrphanBackends(cluster.dataDir)).toBe(0);
  process.kill(backend.pid, 'SIGSTOP');
  onTestFinished(() => killQuietly(backend.pid));
  one.process.kill('SIGKILL');
  await once(one.process, 'exit');
  const refused = await serve(await prepareCluster(home, () => {}, systemDir));
  await once(refused.process, 'exit');

  expect(await endOrphanBackends(cluster.dataDir)).toBeGreaterThan(0);
  const two = await serve(cluster);
  const after = postgres(await ensureDatabase(cluster, two.port), { max: 1 });
  onTestFinished(() => after.end({ timeout: 1 }));
  expect(await after`select 1`).toHaveLength(1);
  expect(await endOrphanBackends(cluster.dataDir)).toBe(0);
  await sql.end({ timeout: 1 });
}, 60_000);

test('a postmaster.pid whose number belongs to another program is cleared; that of a live server is not', async () => {
  const { home, systemDir } = await places(0o755);
  const cluster = await prepareCluster(home, () => {}, systemDir);
  await writeFile(join(cluster.dataDir, 'postmaster.pid'), `${process.pid}\n`);
  expect(await clearStalePostmaster(cluster.dataDir)).toBe(true);
  const { port } = await serve(cluster);
  await ensureDatabase(cluster, port);
  expect(await clearStalePostmaster(cluster.dataDir)).toBe(false);
}, 60_000);

test('data of another major version is refused with what to do', async () => {
  const { home, systemDir } = await places(0o755);
  const { dataDir } = await prepareCluster(home, () => {}, systemDir);
  await writeFile(join(dataDir, 'PG_VERSION'), '17\n');
  await expect(prepareCluster(home, () => {}, systemDir)).rejects.toThrow(/written by PostgreSQL 17, and 18 cannot read it/);
}, 60_000);

test('a DATABASE_URL where nobody answers is one sentence without its password', async () => {
  const url = `postgres://me:secret@127.0.0.1:${await anyPort()}/orchestra`;
  const fault = await providePostgres({ url, home: '/nonexistent', say: () => {} }).catch((error: unknown) => error);
  expect(fault).toBeInstanceOf(PostgresUnavailable);
  expect(String(fault)).toContain('unset DATABASE_URL');
  expect(String(fault)).not.toContain('secret');
  expect(clusterUrl({ binary: '', dataDir: '', user: null, password: 'x' }, 5432)).toBe('postgres://orchestra:x@127.0.0.1:5432/orchestra');
}, 30_000);
