import { createHash } from 'node:crypto';
import { chmod, mkdir, readFile, stat, watch, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Logger, pino } from 'pino';
import { askOllamaVersion, ollamaCommand } from '../activities/backends/server/ollama-command.js';
import { ollamaDefaultPort } from '../activities/backends/server/ollama-address.js';
import { endOrphanRunners } from '../activities/backends/server/orphan-runners.js';
import { findOllama, findOllamaBinary, findOrBuildOllama } from '../activities/backends/server/provide-ollama.js';
import { steps } from '../activities/steps/index.js';
import { childEnvironment, type Config, packageRoot, packageVersion } from '../config.js';
import { temporalPage } from '../contract/temporal-page.js';
import { connect, disconnect } from '../db/connect.js';
import { defaultModelsMax } from '../host/room-of.js';
import { readParts } from '../db/health.js';
import { migrate } from '../db/migrate.js';
import { endOrphanBackends } from '../db/server/orphan-backends.js';
import { clusterUrl, postgresCommand, PostgresUnavailable } from '../db/server/postgres-cluster.js';
import { ensureDatabase, postgresAnswers, providePostgres } from '../db/server/provide-postgres.js';
import { claimTemporalFile, provideTemporal, TemporalUnavailable } from '../temporal/server/provide-temporal.js';
import { askServerVersion } from '../temporal/server/server-version.js';
import { ownPriorityLevels, temporalCommand } from '../temporal/server/temporal-command.js';
import { loadCatalogue } from '../templates/catalogue.js';
import { defaultApiPort } from './api.js';
import { ensureAdminKey, signInAddress } from './first-sign-in.js';
import { templateDirectories } from './parts.js';
import { isLive, livePort, processStartTime, readProcessFile, readReadiness, removeProcessFile, writeProcessFile } from './process-file.js';
import { releasePorts, reservePort } from './reserve-port.js';
import { type MainContext, runMain, StartFault } from './run-main.js';
import { type ChildSpec, createSupervisor, type Supervisor } from './supervise.js';

export interface UpOptions {
  /** false: no Ollama is started or built; one that is named or runs already is used */
  readonly ollama: boolean;
  /** restart the mains when a source file changes */
  readonly watch: boolean;
  /** the file of the command line, which starts the mains */
  readonly cli: string;
}

const mains = ['api', 'engine', 'host'] as const;
const servers = ['ollama', 'temporal', 'postgres'] as const;
const temporalPort = 7233;
const temporalUiPort = 8233;
/** how long `up` waits for what the host says of its model server */
const hostSpeaksMs = 5_000;
/** how long the address to sign in with is valid */
const ticketMinutes = 60;

/** `orchestra up`: everything that one machine needs, kept running until it is asked to end. */
export async function runUp(options: UpOptions): Promise<void> {
  await runMain('up', async (context) => {
    const { config, log, stopping } = context;
    const say = (line: string) => void process.stdout.write(`${line}\n`);
    await claimHome(config.home);
    const supervisor = createSupervisor({ home: config.home, say });
    context.onCut(() => supervisor.cut());
    try {
      const { addresses, laterOllama } = await startAll(options, context, supervisor, say);
      stopping.throwIfAborted();
      say(readyBlock(config, addresses, await brokenTemplates(config)));
      const background = new AbortController();
      const building = laterOllama(AbortSignal.any([background.signal, stopping])).catch((error: unknown) =>
        log.error({ err: error }, 'Ollama could not be started'),
      );
      const watching = options.watch ? restartOnChange(supervisor, say, background.signal, log) : Promise.resolve();
      return {
        // Children drain for as long as we would; the supervisor cuts those that take longer.
        drain: () => supervisor.stop(...mains),
        async stop() {
          background.abort();
          await Promise.all([building, watching]);
          for (const name of [...mains, ...servers]) await supervisor.stop(name);
          await releasePorts(config.cacheDir, reserved);
          await removeProcessFile(config.home, 'up');
        },
        stopTimeoutMs: 120_000,
      };
    } catch (error) {
      await supervisor.stop(...mains);
      for (const name of servers) await supervisor.stop(name);
      await releasePorts(config.cacheDir, reserved);
      await removeProcessFile(config.home, 'up');
      throw error;
    }
  });
}

/** What tasks were given and gave is nobody else's on this machine: Temporal's file has the plans, results and logs the rest. */
const closedFolders = ['files', 'results', 'logs', 'run', 'temporal'] as const;

/** One `up` per home. The folder may be passed by PostgreSQL's user, and listed by its owner only. */
async function claimHome(home: string): Promise<void> {
  await mkdir(home, { recursive: true });
  await chmod(home, 0o711);
  for (const name of closedFolders) {
    await mkdir(join(home, name), { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
  }
  const other = await readProcessFile(home, 'up');
  if (other !== null && other.pid !== process.pid && (await isLive(other))) {
    throw new StartFault(`${home} is in use by process ${other.pid}: stop that one, or set ORCHESTRA_HOME to another folder.`);
  }
  const startTime = (await processStartTime(process.pid)) ?? '';
  await writeProcessFile(home, 'up', { pid: process.pid, startTime, port: null, version: packageVersion() });
}

interface Addresses {
  readonly api: string;
  /** opens the dashboard signed in, once; null: none could be made */
  readonly signIn: string | null;
  /** null: only on the port of the API */
  readonly metrics: string | null;
  readonly temporalUi: string | null;
  readonly adminKeyFile: string;
  /** where models come from, or why model steps wait */
  readonly models: string;
}

interface Started {
  readonly addresses: Addresses;
  /** builds and starts what may come after everything else is ready */
  readonly laterOllama: (signal: AbortSignal) => Promise<void>;
}

type Say = (line: string) => void;

async function startAll(options: UpOptions, { config, log, stopping }: MainContext, supervisor: Supervisor, say: Say): Promise<Started> {
  const parts = [startPostgres(config, supervisor, say), startTemporal(config, supervisor, say), startOllama(options, config, supervisor, say)] as const;
  await Promise.allSettled(parts); // so that a fault of one leaves no other half started
  const [database, temporal, ollama] = await Promise.all(parts);
  stopping.throwIfAborted();
  await migrate(database, log);
  const adminKeyFile = await ensureAdminKey(database, config.home, log);
  stopping.throwIfAborted();

  const port = await apiPort(config);
  const metricsPort = await metricsPortOf(config);
  const env = {
    ORCHESTRA_HOME: config.home,
    ORCHESTRA_CACHE: config.cacheDir,
    DATABASE_URL: database,
    TEMPORAL_ADDRESS: temporal.address,
    ...(temporal.uiAddress === null ? {} : { TEMPORAL_UI_ADDRESS: temporal.uiAddress }),
    TEMPORAL_PRIORITY_LEVELS: String(temporal.priorityLevels),
    OLLAMA_HOST: ollama.address,
    PORT: String(port),
    METRICS_PORT: metricsPort === null ? 'off' : String(metricsPort),
  };
  const version = await versionOf({ ...config, env });
  const specOf = (name: (typeof mains)[number]): ChildSpec => ({
    name,
    file: process.execPath,
    args: [...process.execArgv, options.cli, name],
    env: childEnvironment({ ...env, ORCHESTRA_PROVIDED: providedBy(config.settings, env) }),
    cwd: process.cwd(), // loaders in execArgv may be named relative to it
    port: name === 'api' ? port : null,
    version,
    ready: async (pid) => {
      const readiness = await readReadiness(config.home, name);
      if (readiness?.pid !== pid) return false;
      return name !== 'api' || (await fetch(`${addressOf(config, port)}/readyz`, { signal: AbortSignal.timeout(5_000) })).ok;
    },
    readyTimeoutMs: 120_000,
    stopSignal: 'SIGTERM',
    stopTimeoutMs: config.shutdown.graceMs + 20_000,
  });
  const starts = mains.map((name) => supervisor.start(specOf(name)));
  await Promise.allSettled(starts);
  await Promise.all(starts);
  const apiProcess = await readProcessFile(config.home, 'api');
  if (metricsPort !== null && apiProcess !== null)
    await writeFile(join(config.home, 'run', 'metrics-port.json'), JSON.stringify({ pid: apiProcess.pid, port: metricsPort }));
  const models = await modelsLine(database, config.host.id, ollama);
  const api = addressOf(config, port);
  const signIn = await signInAddress(database, { api, keyFile: adminKeyFile, minutes: ticketMinutes, log });
  const metrics = metricsPort === null ? null : `${addressOf(config, metricsPort)}/metrics`;
  return { addresses: { api, signIn, metrics, temporalUi: temporal.uiAddress, adminKeyFile, models }, laterOllama: ollama.later };
}

/** Variables of `env` that nobody has set in the environment of this process: the children get them from here, not from a person. */
export function providedBy(settings: Config['settings'], env: Readonly<Record<string, string>>): string {
  const set = new Set(settings.filter(({ origin }) => origin === 'variable').map(({ variable }) => variable));
  return Object.keys(env)
    .filter((name) => !set.has(name))
    .join(',');
}

async function startPostgres(config: Config, supervisor: Supervisor, say: Say): Promise<string> {
  const provided = await providePostgres({ url: config.database.url, home: config.home, say });
  if (provided.kind === 'foreign') return provided.url;
  const { cluster } = provided;
  const port = await portOf(config, 'postgres', 0);
  const { file, args, user } = postgresCommand(cluster, port);
  const url = clusterUrl(cluster, port);
  const spec: ChildSpec = {
    name: 'postgres',
    file,
    args,
    user,
    port,
    version: hashOf([file, ...args]),
    ready: () => postgresAnswers(url),
    readyTimeoutMs: 120_000, // after a power cut it first repeats its log
    stopSignal: 'SIGINT', // PostgreSQL's fast shutdown; SIGTERM would wait for every client
    stopTimeoutMs: 30_000,
    cutSignal: 'SIGQUIT', // its immediate shutdown: the next start repeats the log, and no orphan holds the memory
    sweep: () => endLeft('PostgreSQL', 'process', 'processes', () => endOrphanBackends(cluster.dataDir), say),
  };
  await supervisor.start(spec).catch((error: unknown) => {
    throw new PostgresUnavailable(
      `PostgreSQL does not start (${error instanceof Error ? error.message : String(error)}): mend that, or set DATABASE_URL to a running one.`,
      { cause: error },
    );
  });
  return ensureDatabase(cluster, port);
}

interface TemporalPart {
  readonly address: string;
  readonly uiAddress: string | null;
  readonly priorityLevels: number;
}

async function startTemporal(config: Config, supervisor: Supervisor, say: Say): Promise<TemporalPart> {
  const { uiAddress, priorityLevels } = config.temporal;
  const provided = await provideTemporal({ address: config.temporal.address, path: config.path, cacheDir: config.cacheDir, say });
  if (provided.kind === 'foreign') return { address: provided.address, uiAddress, priorityLevels };
  const directory = join(config.home, 'temporal');
  const port = await portOf(config, 'temporal', temporalPort);
  const uiPort = config.temporal.ui ? await uiPortOf(config, directory, port) : null;
  await claimTemporalFile(directory, provided.serverVersion);
  const { file, args } = temporalCommand({ binary: provided.binary, directory, port, uiPort, namespaces: [] });
  const address = `127.0.0.1:${port}`;
  await supervisor
    .start({
      name: 'temporal',
      file,
      args,
      port,
      version: hashOf([provided.serverVersion, file, ...args]),
      ready: async () => (await askServerVersion(address, 2_000)) === provided.serverVersion,
      readyTimeoutMs: 60_000,
      stopSignal: 'SIGTERM',
      stopTimeoutMs: 15_000,
    })
    .catch((error: unknown) => {
      throw new TemporalUnavailable(
        `Temporal does not start (${error instanceof Error ? error.message : String(error)}): mend that, or set TEMPORAL_ADDRESS to a running one.`,
        { cause: error },
      );
    });
  return { address, uiAddress: uiPort === null ? null : `http://127.0.0.1:${uiPort}`, priorityLevels: ownPriorityLevels };
}

const reserved = new Set<number>();

async function reserve(config: Config, wanted: number): Promise<number> {
  const port = await reservePort(config.cacheDir, wanted);
  reserved.add(port);
  return port;
}

/** The port of a server that an earlier start left alive, else the wanted one or a free one. */
async function portOf(config: Config, name: string, wanted: number): Promise<number> {
  return (await livePort(config.home, name)) ?? reserve(config, wanted);
}

/** The Web UI's port, kept beside the server's file so that a server that is adopted is named with its own. */
async function uiPortOf(config: Config, directory: string, port: number): Promise<number> {
  const path = join(directory, 'web-ui.json');
  const file = await readProcessFile(config.home, 'temporal');
  if (file !== null && (await isLive(file))) {
    try {
      const kept = JSON.parse(await readFile(path, 'utf8')) as { port: number; uiPort: number };
      if (kept.port === port) return kept.uiPort;
    } catch {
      // the arguments will differ, and the server is replaced
    }
  }
  const uiPort = await reserve(config, temporalUiPort);
  await mkdir(directory, { recursive: true });
  await writeFile(path, JSON.stringify({ port, uiPort }));
  return uiPort;
}

interface OllamaPart {
  /** where it is, or will be */
  readonly address: string;
  /** why there is none yet; null: one was found or started */
  readonly missing: string | null;
  readonly later: (signal: AbortSignal) => Promise<void>;
}

async function startOllama(options: UpOptions, config: Config, supervisor: Supervisor, say: Say): Promise<OllamaPart> {
  const search = { address: config.models.address, path: config.path, cacheDir: config.cacheDir, say };
  const nothingLater = async () => {};
  // A server of ours that an earlier start left would otherwise be taken for somebody else's.
  const left = await readProcessFile(config.home, 'ollama');
  const home = join(config.home, 'ollama');
  const modelsDir = join(home, 'models');
  // Also when another server is used from now on: a runner keeps its memory for ever.
  await endRunners(modelsDir, say);
  const ownLives = left !== null && (await isLive(left));
  const port = await portOf(config, 'ollama', ollamaDefaultPort);
  const run = async (binary: string) => {
    await mkdir(modelsDir, { recursive: true });
    const { file, args, env, url } = ollamaCommand(
      binary,
      { port, modelsDir, homeDir: home, maxLoadedModels: config.models.maxLoaded ?? defaultModelsMax, parallel: config.models.parallel },
      childEnvironment(),
    );
    await supervisor.start({
      name: 'ollama',
      file,
      args,
      env,
      port,
      version: hashOf([file, ...args, JSON.stringify(env)]),
      ready: async () => (await askOllamaVersion(url)) !== null,
      readyTimeoutMs: 60_000,
      stopSignal: 'SIGTERM',
      stopTimeoutMs: 15_000,
      sweep: () => endRunners(modelsDir, say),
    });
    say(`Ollama: serves at ${url}`);
  };
  const ownAddress = `http://127.0.0.1:${port}`;
  const found = ownLives && config.models.address === null ? await findOwn(search) : await findOllama(search);
  if ('address' in found) return { address: found.address, missing: null, later: nothingLater };
  if (found.kind !== 'unavailable') {
    if (!options.ollama) {
      say('Ollama: none runs, and none is started since --no-ollama was given; model steps wait');
      return { address: ownAddress, missing: 'none runs, and --no-ollama was given', later: nothingLater };
    }
    // Without it everything else works, so a fault of it is no fault of the start.
    await run(found.binary).catch((error: unknown) => say(`Ollama: ${error instanceof Error ? error.message : String(error)}; model steps wait`));
    return { address: ownAddress, missing: null, later: nothingLater };
  }
  say(`Ollama: ${found.reason}; model steps wait${options.ollama ? '' : ', since --no-ollama was given'}`);
  if (config.models.address !== null || !options.ollama) {
    say(`Ollama: ${found.remedy}`);
    return { address: config.models.address ?? ownAddress, missing: found.reason, later: nothingLater };
  }
  return {
    address: ownAddress,
    missing: 'one is being built, where Go and a C++ compiler are',
    async later(signal) {
      const built = await findOrBuildOllama({ ...search, allowBuild: true, signal }).catch((error: unknown) => {
        if (signal.aborted) return null;
        throw error;
      });
      if (built === null || signal.aborted) return;
      if (built.kind === 'unavailable') say(`Ollama: ${built.reason}; ${built.remedy}`);
      else if ('binary' in built) await run(built.binary);
      else say('Ollama: one was started meanwhile by somebody else; start again to use it');
    },
  };
}

/** A killed server's runners live on, each with its model in memory. */
function endRunners(modelsDir: string, say: Say): Promise<void> {
  return endLeft('Ollama', 'runner', 'runners', () => endOrphanRunners(modelsDir), say);
}

/** Ends what a server that is gone has left; a fault of that is told and no fault of the start. */
async function endLeft(server: string, one: string, many: string, end: () => Promise<number>, say: Say): Promise<void> {
  try {
    const ended = await end();
    if (ended > 0) say(`${server}: ended ${ended} ${ended === 1 ? one : many} that a server that is gone had left`);
  } catch (error) {
    say(`${server}: ${many} that are left could not be looked for: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** The executable that our own living server was started from, without asking who answers on the usual port. */
async function findOwn(search: { readonly path: string; readonly cacheDir: string; readonly say: Say }) {
  return (await findOllamaBinary(search.path, search.cacheDir)) ?? findOllama({ ...search, address: null });
}

/** What the host says of its model server, for the person who starts us; it is asked for at most a few seconds. */
async function modelsLine(database: string, hostId: string, { address, missing }: OllamaPart): Promise<string> {
  const sql = connect(database, { applicationName: 'orchestra-up', connectionsMax: 1 });
  try {
    for (const deadlineMs = performance.now() + hostSpeaksMs; ; await delay(100)) {
      const host = (await readParts(sql)).hosts.find(({ id, live }) => id === hostId && live);
      if (host?.ready) return `Ollama at ${address}, version ${host.version}${host.warning === null ? '' : `. WARNING: ${host.warning}`}`;
      if (host?.why) return `model steps wait: ${missing ?? host.why}`;
      if (performance.now() > deadlineMs) return `model steps wait: ${missing ?? 'the host has not reached its model server yet'}`;
    }
  } finally {
    await disconnect(sql);
  }
}

async function apiPort(config: Config): Promise<number> {
  const live = await livePort(config.home, 'api');
  if (live !== null && (config.api.port === null || config.api.port === 0 || config.api.port === live)) return live;
  if (config.api.port === null) return reserve(config, defaultApiPort);
  if (config.api.port === 0) return reserve(config, 0);
  if ((await reserve(config, config.api.port)) !== config.api.port) {
    throw new StartFault(`Port ${config.api.port} is taken: set PORT to another one, or to 0 for any free one.`);
  }
  return config.api.port;
}

/** The port of the metrics, kept beside the API's file so that an API that is adopted is named with its own; null: none. */
async function metricsPortOf(config: Config): Promise<number | null> {
  const { port, portGivesWay } = config.monitoring;
  if (port === null) return null;
  const path = join(config.home, 'run', 'metrics-port.json');
  const live = await readProcessFile(config.home, 'api');
  if (live !== null && (await isLive(live))) {
    try {
      const kept = JSON.parse(await readFile(path, 'utf8')) as { pid: number; port: number };
      if (kept.pid === live.pid && (portGivesWay || port === 0 || kept.port === port)) return kept.port;
    } catch {
      // the arguments will differ, and the API is replaced
    }
  }
  const found = await reserve(config, port);
  if (!portGivesWay && port !== 0 && found !== port)
    throw new StartFault(`Port ${port} is taken: set METRICS_PORT to another one, to 0 for any free one, or to off.`);
  return found;
}

function addressOf(config: Config, port: number): string {
  const everywhere = config.api.host === '0.0.0.0' || config.api.host === '::';
  const host = everywhere ? '127.0.0.1' : config.api.host.includes(':') ? `[${config.api.host}]` : config.api.host;
  return `http://${host}:${port}`;
}

/** Differs when the program, its configuration or the addresses it was given do: then a child that lives is not adopted. */
async function versionOf(of: object): Promise<string> {
  // A build that is newer than the child makes another program under the same version number.
  const compiled = import.meta.url.includes('/dist/');
  const built = compiled ? (await stat(join(packageRoot(), 'dist', '.tsbuildinfo'))).mtimeMs : 0;
  return `${packageVersion()}-${hashOf([JSON.stringify(of), String(built)])}`;
}

function hashOf(parts: readonly string[]): string {
  return createHash('sha256').update(parts.join('\0')).digest('hex').slice(0, 12);
}

/** What to say of template files that give no template; null: nothing. The API's log has every fault. */
async function brokenTemplates(config: Config): Promise<string | null> {
  const { broken } = await loadCatalogue(templateDirectories(config), steps, pino({ level: 'silent' }));
  const [first] = broken;
  if (first === undefined) return null;
  const count = broken.length === 1 ? '1 template file is broken' : `${broken.length} template files are broken`;
  return `${count}: ${first.file}: ${first.faults[0]?.message ?? 'it cannot be read'}; the rest is in the log`;
}

function readyBlock(config: Config, addresses: Addresses, broken: string | null): string {
  const { api, signIn, metrics, temporalUi, adminKeyFile, models } = addresses;
  const rows: readonly (readonly [string, string])[] = [
    ['Dashboard and API', api],
    ['Sign in (once)', signIn ?? 'with an address that `orchestra dashboard` prints'],
    ['API documentation', `${api}/docs`],
    ['Metrics', metrics ?? `${api}/metrics`],
    [
      'Temporal Web UI',
      temporalUi === null
        ? config.temporal.ui
          ? 'where your Temporal server has it (TEMPORAL_UI_ADDRESS)'
          : 'off (TEMPORAL_UI)'
        : temporalPage(temporalUi, config.temporal.namespace),
    ],
    ['Models', models],
    ["Administrator's key", adminKeyFile],
    ['Logs', join(config.home, 'logs')],
    ...(broken === null ? [] : [['WARNING', broken] as const]),
  ];
  const body = '{"template":"ollama-inference","parameters":{"model":"llama3.2:1b","prompt":"Say hello."}}';
  return [
    '',
    `AI Task Orchestra ${packageVersion()} is ready.`,
    ...rows.map(([name, value]) => `  ${name.padEnd(20)} ${value}`),
    '  Submit a task:',
    `    curl -s ${api}/api/v1/tasks -H "${config.security.apiKeyHeader}: $(cat '${adminKeyFile}')" -H 'Content-Type: application/json' -d '${body}'`,
    '',
  ].join('\n');
}

/** Starts the mains again when a source file of theirs changes; what they run goes back to the line. */
async function restartOnChange(supervisor: Supervisor, say: Say, signal: AbortSignal, log: Logger): Promise<void> {
  try {
    for await (const { filename } of watch(packageRoot(), { recursive: true, signal })) {
      if (filename === null || !isSource(filename)) continue;
      await delay(300, undefined, { signal }); // an editor writes more than one file
      say(`${filename} has changed: starting api, engine and host again`);
      await Promise.all(
        mains.map((name) => supervisor.restart(name).catch((error: unknown) => say(`${name}: ${error instanceof Error ? error.message : String(error)}`))),
      );
    }
  } catch (error) {
    if (!signal.aborted) log.error({ err: error }, 'source files are no longer watched');
  }
}

/** Whether a change of this path, relative to the package, is one of the program. */
export function isSource(path: string): boolean {
  return /^(activities|api|config|contract|dashboard|db|engine|host|mains|scheduling|service|templates|temporal|workflows)\/.*\.(ts|js|yaml|sql|eta|css)$|^(config|logging|loop|metrics)\.ts$|^config\/.*\.yaml$/.test(
    path.replaceAll('\\', '/'),
  );
}
