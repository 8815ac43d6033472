import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import type { NativeConnection } from '@temporalio/worker';
import type { Logger } from 'pino';
import type { ModelBackend } from '../activities/backends/backend.js';
import { backends } from '../activities/backends/index.js';
import { defaultOllamaTimeouts } from '../activities/backends/ollama.js';
import { createGitClient } from '../activities/git/clone.js';
import { createRunningSteps, type RunningSteps } from '../activities/running.js';
import { probeSandbox } from '../activities/sandbox/probe-sandbox.js';
import type { StepDeps } from '../activities/step-activities.js';
import { steps } from '../activities/steps/index.js';
import { createWorkspaces, type Workspaces } from '../activities/workspace.js';
import { type Config, effectiveConfiguration, packageRoot, setVariable } from '../config.js';
import { connect, connectionsThatFit, disconnect, type Sql, untilAvailable } from '../db/connect.js';
import { adoptEvents } from '../db/events.js';
import { createLine } from '../db/line.js';
import { migrate } from '../db/migrate.js';
import { noteConfiguration } from '../service/configuration.js';
import type { TemplateDirectory } from '../templates/catalogue.js';
import { createRenderer } from '../templates/render.js';
import { connectClient, connectNative, type TemporalTarget } from '../temporal/client.js';
import { ensureNamespace } from '../temporal/namespace.js';
import { installRuntime } from '../temporal/runtime.js';
import { StartFault } from './run-main.js';

const defaultTemporalAddress = '127.0.0.1:7233';
const defaultOllamaAddress = '127.0.0.1:11434';
/** Where Temporal does not end polls with their worker, the SDK waits this long for one before it cuts it. */
const pollInterruptMs = '5000';

/** Where templates are read from, the built-in ones first. */
export function templateDirectories(config: Config): TemplateDirectory[] {
  return [
    { path: join(packageRoot(), 'templates'), source: 'built-in' },
    { path: join(packageRoot(), 'templates', 'community'), source: 'community' },
    ...(config.templates.directory === null ? [] : [{ path: config.templates.directory, source: 'local' as const }]),
  ];
}

/** The address of the database. @throws {StartFault} when nobody has said where it is */
export function databaseUrl(config: Config): string {
  if (config.database.url !== null) return config.database.url;
  throw new StartFault('No database is named: set DATABASE_URL, or start everything with `orchestra up`.');
}

/** A start with another configuration than the last one goes into the audit log. It goes on also when that fails. */
async function noteStart(config: Config, name: string, sql: Sql, log: Logger): Promise<void> {
  const main = name === 'host' ? `host:${config.host.id}` : name;
  try {
    const keys = await noteConfiguration(sql, main, effectiveConfiguration(config));
    if (keys.length > 0) log.info({ keys }, 'the configuration has changed since the last start');
  } catch (error) {
    log.error({ err: error }, 'the configuration of this start could not be kept');
  }
}

/**
 * Opens the database and brings it to the present schema; waits for a server that is not there yet, so that everything may start in any order.
 * Its pool has `pool_size` and `max_overflow` connections together, or fewer where the server has no room for three such mains; idle ones are closed.
 */
export async function openDatabase(config: Config, name: string, log: Logger, stopping: AbortSignal): Promise<Sql> {
  const url = databaseUrl(config);
  const wanted = config.database.poolSize + config.database.maxOverflow;
  const first = connect(url, { applicationName: `orchestra-${name}`, connectionsMax: 1 });
  try {
    let told = false;
    const connectionsMax = await untilAvailable(
      async () => {
        try {
          return await connectionsThatFit(first, wanted);
        } catch (error) {
          if (!told) log.warn({ err: error }, 'the database does not answer; waiting for it');
          told = true;
          throw error;
        }
      },
      { patienceMs: Number.MAX_SAFE_INTEGER, signal: stopping },
    );
    if (connectionsMax < wanted) {
      log.warn(
        { wanted, connectionsMax },
        'the server of the database has too few max_connections for pool_size and max_overflow of three mains; fewer are used',
      );
    }
    await migrate(url, log);
    const sql = connect(url, { applicationName: `orchestra-${name}`, connectionsMax });
    const adopted = await untilAvailable(() => adoptEvents(sql), { patienceMs: 30_000, signal: stopping });
    if (adopted > 0) log.info({ events: adopted }, 'events of another cluster, which a restore brought, were put in the order of this one');
    await noteStart(config, name, sql, log);
    return sql;
  } finally {
    await disconnect(first);
  }
}

export function temporalTarget(config: Config): TemporalTarget {
  const { address, namespace, tls, apiKey } = config.temporal;
  return { address: address ?? defaultTemporalAddress, namespace, ...(tls === undefined ? {} : { tls }), ...(apiKey === undefined ? {} : { apiKey }) };
}

/** Both ways to Temporal that a process with workers needs. */
export interface TemporalParts {
  readonly client: Client;
  readonly connection: NativeConnection;
  close(): Promise<void>;
}

/** Connects to Temporal, waiting for a server that is not there yet, and makes the namespace ready. Installs the runtime, so once per process. */
export async function openTemporal(config: Config, log: Logger, stopping: AbortSignal): Promise<TemporalParts> {
  const target = temporalTarget(config);
  installRuntime(log);
  const client = await untilConnected(() => connectClient(target), log, stopping);
  try {
    const facts = await ensureNamespace(client.connection, target.namespace);
    log.info({ ...facts, address: target.address, namespace: target.namespace }, 'connected to Temporal');
    if (!facts.cancelsPollsOnShutdown) {
      log.warn('this Temporal server has frontend.enableCancelWorkerPollsOnShutdown off: a worker that stops may hold up steps for some seconds');
      setVariable('TEMPORAL_POLL_SHUTDOWN_INTERRUPT_WAIT_MS', pollInterruptMs);
    }
    const connection = await connectNative(target);
    return {
      client,
      connection,
      async close() {
        await connection.close();
        await client.connection.close();
      },
    };
  } catch (error) {
    await client.connection.close();
    throw error;
  }
}

async function untilConnected<T>(open: () => Promise<T>, log: Logger, stopping: AbortSignal): Promise<T> {
  for (let waitMs = 250; ; waitMs = Math.min(5_000, waitMs * 2)) {
    try {
      return await open();
    } catch (error) {
      if (stopping.aborted) throw error;
      log.warn({ err: error, waitMs }, 'Temporal does not answer; trying again');
      await delay(waitMs, undefined, { signal: stopping });
    }
  }
}

/** The client of Temporal for those who do without it while it is away: connected at the first use, and again after a failure. */
export function lazyClient(config: Config): { readonly client: () => Promise<Client>; close(): Promise<void> } {
  let connecting: Promise<Client> | null = null;
  return {
    client() {
      connecting ??= connectClient(temporalTarget(config)).catch((error: unknown) => {
        connecting = null;
        throw error;
      });
      return connecting;
    },
    async close() {
      const client = await connecting?.catch(() => null);
      await client?.connection.close();
    },
  };
}

/** What the steps of a process work with, beside its models and whose slots they take. */
export interface StepParts {
  readonly deps: Omit<StepDeps, 'models' | 'engine'>;
  readonly models: ModelBackend;
  readonly running: RunningSteps;
  readonly workspaces: Workspaces;
  /** the level of the fence around scripts, or `refused` */
  readonly fence: string;
}

export async function openStepParts(config: Config, sql: Sql, log: Logger): Promise<StepParts> {
  for (const directory of [...config.files.roots, config.files.resultsRoot]) await mkdir(directory, { recursive: true, mode: 0o700 });
  await mkdir(config.files.workspacesRoot, { recursive: true, mode: 0o711 }); // the user of a script passes through
  const running = createRunningSteps();
  const workspaces = createWorkspaces(config.files.workspacesRoot);
  const models = backends.ollama({
    address: config.models.address ?? defaultOllamaAddress,
    registries: config.models.registries,
    allowPull: config.models.allowPull,
    timeouts: defaultOllamaTimeouts,
    log,
  });
  const sandbox = await probeSandbox({ setting: config.isolation.sandbox, minimum: config.isolation.minimum, log });
  return {
    models,
    running,
    fence: sandbox.refusal === null ? sandbox.level : 'refused',
    workspaces,
    deps: {
      line: createLine(sql),
      steps,
      renderer: createRenderer(),
      running,
      workspaces,
      resultsRoot: config.files.resultsRoot,
      fileRoots: config.files.roots,
      limits: config.limits,
      toldCharsMax: config.events.toldCharsMax,
      sandbox,
      git: createGitClient({ allowedSchemes: config.git.allowedSchemes, allowedHosts: config.git.allowedHosts, log }),
      log,
    },
  };
}
