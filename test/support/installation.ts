import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Client, Connection } from '@temporalio/client';
import { type Logger, pino } from 'pino';
import { createOllamaBackend, defaultOllamaTimeouts, type OllamaTimeouts } from '../../activities/backends/ollama.js';
import { createLineActivities } from '../../activities/line-activities.js';
import { createOrderActivities } from '../../activities/residency.js';
import { createStepActivities } from '../../activities/step-activities.js';
import type { StepDefinition } from '../../activities/steps/define-step.js';
import { steps as productSteps } from '../../activities/steps/index.js';
import { createApp } from '../../api/app.js';
import { listen } from '../../api/server.js';
import { type Config, effectiveConfiguration, loadConfig, packageRoot } from '../../config.js';
import type { TaskView } from '../../contract/schemas/task.js';
import { serveDashboard } from '../../dashboard/serve-dashboard.js';
import { connect, disconnect, type Sql } from '../../db/connect.js';
import { createHostRows } from '../../db/host-rows.js';
import { orderWrites } from '../../db/residency.js';
import { createEngine, type Engine } from '../../engine/engine.js';
import { createHost, type Host } from '../../host/host.js';
import { watchRoom } from '../../host/read-memory.js';
import { createListenHub } from '../../mains/listen-hub.js';
import { startMetrics } from '../../mains/metrics.js';
import { openStepParts } from '../../mains/parts.js';
import type { PriorityAgent } from '../../scheduling/learned-order.js';
import { createServices, type Services } from '../../service/services.js';
import { type Catalogue, loadCatalogue } from '../../templates/catalogue.js';
import { connectClient, connectNative } from '../../temporal/client.js';
import { installRuntime } from '../../temporal/runtime.js';
import { ensureNamespace } from '../../temporal/namespace.js';
import { checkAnswer } from './answers.js';
import { createTestDatabase, eventually, ollamaAddress, takeNamespace, type TestDatabase, temporalAddress } from './servers.js';

export interface InstallationOptions {
  /** local templates, YAML by file name without its ending */
  readonly templates?: Readonly<Record<string, string>>;
  /** step types beside the product's */
  readonly steps?: readonly StepDefinition[];
  /** environment variables, as a person would set them */
  readonly env?: Readonly<Record<string, string>>;
  /** with a host, so that model steps run */
  readonly models?: boolean;
  /** a database of the test's own server, which ends with the installation; default: one on the server of the run */
  readonly database?: TestDatabase;
  /** false: the test runs an engine as a process of its own */
  readonly engine?: false;
  /** where the product, but not the test, finds its servers: proxies that harm what passes, or servers of the test's own */
  readonly through?: { readonly database?: (url: string) => string; readonly temporal?: string; readonly ollama?: string };
  readonly ollamaTimeouts?: Partial<OllamaTimeouts>;
  /** engines collect their samples so often, and settle the alerts; default: never */
  readonly collectEveryMs?: number;
  /** a learned agent, which none of the product is */
  readonly agent?: PriorityAgent;
  /** default: what TEST_LOG says, else silent */
  readonly log?: Logger;
}

/** `body` is what JSON.parse gave, or the text. */
export interface Answer<Body = ReturnType<JSON['parse']>> {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Body;
}

/** The whole product in this process, on the run's servers, with a database, a namespace and a home of its own. */
export interface Installation {
  readonly sql: Sql;
  readonly database: TestDatabase;
  readonly client: Client;
  readonly config: Config;
  readonly services: Services;
  /** administrator's key */
  readonly key: string;
  /** @throws where it was asked to have none */
  readonly engine: Engine;
  readonly host: Host | null;
  /** Writes local templates, YAML by file name without its ending, and reads them all anew, as a restart would. */
  changeTemplates(changed: Readonly<Record<string, string>>): Promise<Catalogue>;
  /** Another engine beside the first; ends with the installation. `steps`: step types that it has instead of those of the installation. */
  addEngine(more?: { readonly steps?: readonly StepDefinition[] }): Promise<Engine>;
  /** Serves the API and the dashboard on a port of loopback, for clients of other processes; ends with the installation. @returns its address */
  serve(): Promise<string>;
  request(method: string, url: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
  submit(template: string, parameters: object, more?: object): Promise<TaskView>;
  task(id: string): Promise<TaskView>;
  /** Waits until a task is final. */
  finished(id: string, timeoutMs?: number): Promise<TaskView>;
  stop(): Promise<void>;
}

// Once per process, before the first connection: the SDK's own lines would drown those of the tests.
installRuntime(pino({ level: 'silent' }));

const isFinal = (task: TaskView) => ['completed', 'failed', 'cancelled'].includes(task.status);

export async function startInstallation(options: InstallationOptions = {}): Promise<Installation> {
  const home = await mkdtemp(path.join(tmpdir(), 'orchestra-'));
  const templates = path.join(home, 'templates');
  await mkdir(templates);
  const database = options.database ?? (await createTestDatabase());
  const namespace = takeNamespace();
  const databaseUrl = options.through?.database?.(database.url) ?? database.url;
  const address = options.through?.temporal ?? temporalAddress();
  const ollama = options.models ? (options.through?.ollama ?? ollamaAddress()) : undefined;
  const config = loadConfig({
    PATH: process.env['PATH'],
    HOME: process.env['HOME'],
    ORCHESTRA_HOME: home,
    DATABASE_URL: databaseUrl,
    TEMPORAL_ADDRESS: address,
    TEMPORAL_NAMESPACE: namespace,
    TEMPLATES_DIRECTORY: templates,
    GIT_ALLOWED_SCHEMES: 'https,ssh,file',
    ...(ollama === undefined ? {} : { OLLAMA_HOST: ollama }),
    ...options.env,
  });
  const log: Logger = options.log ?? pino({ level: process.env['TEST_LOG'] ?? 'silent' });
  const sql = connect(databaseUrl, { applicationName: 'test' });
  const client = await connectClient({ address, namespace });
  await ensureNamespace(client.connection as Connection, namespace);
  const native = await connectNative({ address, namespace });
  const registry = [...productSteps, ...(options.steps ?? [])];
  const readTemplates = async (changed: Readonly<Record<string, string>>) => {
    for (const [name, yaml] of Object.entries(changed)) await writeFile(path.join(templates, `${name}.yaml`), yaml);
    return loadCatalogue(
      [
        { path: path.join(packageRoot(), 'templates'), source: 'built-in' },
        { path: path.join(packageRoot(), 'templates', 'community'), source: 'community' },
        { path: templates, source: 'local' },
      ],
      registry,
      log,
    );
  };
  let catalogue = await readTemplates(options.templates ?? {});
  const events = createListenHub(databaseUrl, ['events'], log);
  const metrics = startMetrics(sql, log);
  const services = createServices({
    sql,
    temporal: async () => client,
    log,
    meter: metrics.buffer,
    config: { priorityLevels: 60, temporalTimeoutMs: 2_000, queueMax: config.queue.tasksMax, version: 'test' },
    catalogue: () => catalogue,
    steps: registry,
    deployment: {
      numCtx: config.models.numCtx,
      allowedRegistries: config.models.registries,
      timeoutSecondsMax: config.timeoutSecondsMax,
      ...config.attempts,
      gitSchemes: config.git.allowedSchemes,
      mayPull: config.models.allowPull,
      aliases: config.models.aliases,
      profiles: config.models.profiles,
    },
    flushMetrics: metrics.buffer.flush,
    configuration: effectiveConfiguration(config),
    events: { ...config.events, listen: (onNotify) => events.listen('events', onNotify) },
  });
  const app = createApp({
    services,
    log,
    meter: metrics.buffer,
    config: {
      apiKeyHeader: 'X-API-Key',
      bodyBytesMax: config.api.bodyLimitBytes,
      requestTimeoutMs: 30_000,
      allowedHosts: [],
      publicDocs: true,
      publicMetrics: true,
      temporalUi: null,
      temporalNamespace: 'default',
      version: 'test',
    },
  });
  const { key } = await services.createKey({ name: 'test', userId: 'admin', role: 'admin', expiresAt: null });
  const stops: (() => Promise<void>)[] = [];
  const engine = options.engine === false ? null : await addEngine();
  const host = options.models ? await addHost() : null;

  async function addEngine({ steps = options.steps ?? [] }: { readonly steps?: readonly StepDefinition[] } = {}): Promise<Engine> {
    const parts = await openStepParts(config, sql, log);
    const hub = createListenHub(databaseUrl, ['line', 'outbox', 'cancel'], log);
    // the runtime takes one worker of a queue on a connection
    const connection = await connectNative({ address, namespace });
    const { line, renderer } = parts.deps;
    const id = `engine-${randomUUID()}`;
    const started = createEngine({
      id,
      slots: config.engine.slots,
      algorithm: config.engine.algorithm,
      ...(options.agent === undefined ? {} : { agent: options.agent }),
      sql,
      listen: hub.listen,
      client,
      connection,
      namespace,
      priorityLevels: 60,
      cacheDir: path.join(tmpdir(), 'orchestra-test-bundles'),
      localActivities: {
        ...createLineActivities({ line, renderer, workspaces: parts.workspaces, meter: metrics.buffer, log }),
        ...createOrderActivities({ ...orderWrites(sql), log }),
      },
      stepActivities: createStepActivities({ ...parts.deps, steps: [...productSteps, ...steps], models: parts.models, engine: id }),
      running: parts.running,
      workspaces: parts.workspaces,
      resources: { machine: 'test', diskPath: home, pools: config.engine.pools },
      meter: metrics.buffer,
      decisionsDays: config.engine.decisionsDays,
      ...(options.collectEveryMs === undefined ? {} : { collect: { ...config.monitoring.collect, intervalMs: options.collectEveryMs } }),
      log,
    });
    await started.start();
    stops.unshift(async () => {
      await started.stop();
      await hub.close();
      await connection.close();
    });
    return started;
  }

  async function addHost(): Promise<Host> {
    const parts = await openStepParts(config, sql, log);
    const hub = createListenHub(databaseUrl, ['line', 'residency', 'cancel'], log);
    const models = createOllamaBackend({
      address: ollama ?? '',
      registries: config.models.registries,
      allowPull: config.models.allowPull,
      timeouts: { ...defaultOllamaTimeouts, ...options.ollamaTimeouts },
      log,
    });
    const started = createHost({
      host: 'local',
      parallel: config.models.parallel,
      connection: native,
      namespace,
      models,
      running: parts.running,
      stepActivities: (watched) => createStepActivities({ ...parts.deps, steps: registry, models: watched, engine: null }),
      rows: createHostRows(sql, { host: 'local', address: models.address, parallel: config.models.parallel }),
      listen: hub.listen,
      // One model at a time, as the run's Ollama has it, unless the test says otherwise.
      ...(config.models.maxLoaded === null && config.models.memoryBudgetBytes === null
        ? {}
        : { room: watchRoom({ modelsMax: config.models.maxLoaded, budgetBytes: config.models.memoryBudgetBytes }, models.address, config.path) }),
      log,
    });
    await started.start();
    stops.unshift(async () => {
      await started.stop();
      await hub.close();
    });
    return started;
  }

  const request: Installation['request'] = async (method, url, body, headers = {}) => {
    const answer = await app.request(url, {
      method,
      headers: { 'X-API-Key': key, ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    await checkAnswer(method, new URL(url, 'http://localhost').pathname, answer);
    const text = await answer.text();
    return { status: answer.status, headers: answer.headers, body: (answer.headers.get('content-type') ?? '').includes('json') ? JSON.parse(text) : text };
  };
  const task: Installation['task'] = async (id) => (await request('GET', `/api/v1/tasks/${id}`)).body as TaskView;

  return {
    sql: database.sql,
    database,
    client,
    config,
    services,
    key,
    get engine() {
      if (engine === null) throw new Error('this installation runs no engine');
      return engine;
    },
    host,
    async changeTemplates(changed) {
      catalogue = await readTemplates(changed);
      return catalogue;
    },
    addEngine,
    async serve() {
      serveDashboard(app);
      const server = await listen(app, { hostname: '127.0.0.1', port: 0, log });
      stops.unshift(() => server.close(0));
      return `http://127.0.0.1:${server.port}`;
    },
    request,
    task,
    async submit(template, parameters, more = {}) {
      const answer = await request('POST', '/api/v1/tasks', { template, parameters, ...more });
      if (answer.status !== 201) throw new Error(`${answer.status} ${JSON.stringify(answer.body)}`);
      return answer.body as TaskView;
    },
    finished(id, timeoutMs = 30_000) {
      return eventually(
        async () => {
          const seen = await task(id);
          if (!isFinal(seen)) throw new Error(`task ${id} is ${seen.status} (${seen.status_detail})`);
          return seen;
        },
        { timeoutMs },
      );
    },
    async stop() {
      await services.settled();
      await services.endStreams();
      await events.close();
      for (const stop of stops) await stop();
      await metrics.stop();
      await native.close();
      await client.connection.close();
      await disconnect(sql);
      await database.drop();
      await rm(home, { recursive: true, force: true });
    },
  };
}
