import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { type Logger, pino } from 'pino';
import { createApp } from '../../../api/app.js';
import type { ApiConfig } from '../../../api/env.js';
import { packageRoot } from '../../../config.js';
import { defaultRegistries } from '../../../contract/model-name.js';
import type { TaskView } from '../../../contract/schemas/task.js';
import type { Role } from '../../../contract/roles.js';
import { connect, disconnect } from '../../../db/connect.js';
import { createMetricBuffer } from '../../../metrics.js';
import { createListenHub } from '../../../mains/listen-hub.js';
import { createServices, type Services, type ServicesDeps } from '../../../service/services.js';
import { steps } from '../../../activities/steps/index.js';
import { ensureNamespace } from '../../../temporal/namespace.js';
import { loadCatalogue } from '../../../templates/catalogue.js';
import { checkAnswer } from '../../support/answers.js';
import { createTestDatabase, takeNamespace, temporalAddress, type TestDatabase } from '../../support/servers.js';

export const silent: Logger = pino({ level: 'silent' });

export const apiConfig: ApiConfig = {
  apiKeyHeader: 'X-API-Key',
  bodyBytesMax: 4 * 1024 * 1024,
  requestTimeoutMs: 20_000,
  allowedHosts: [],
  publicDocs: true,
  publicMetrics: true,
  temporalUi: 'http://127.0.0.1:8233',
  temporalNamespace: 'default',
  version: '0.0.0-test',
};

export interface ApiUnderTest {
  readonly database: TestDatabase;
  readonly services: Services;
  readonly temporal: Client;
  /** keys of an administrator, of two users and of a viewer who shares the first user's tasks */
  readonly keys: Readonly<Record<'admin' | 'ann' | 'bob' | 'viewer', string>>;
  readonly deps: ServicesDeps;
  readonly app: ReturnType<typeof createApp>;
  /** Sends a request as somebody; every answer is checked against the schema that its route declares. */
  request(who: string | null, method: string, url: string, body?: unknown, headers?: Record<string, string>): Promise<Response>;
  /** Creates a task that nothing runs, and returns it. */
  task(who: string, fields?: Record<string, unknown>): Promise<TaskView>;
  stop(): Promise<void>;
}

/** The API on a database and a Temporal namespace of its own; no engine runs, so tasks stay as they are put. */
export async function apiUnderTest(overrides: { deps?: Partial<ServicesDeps>; config?: Partial<ApiConfig> } = {}): Promise<ApiUnderTest> {
  const database = await createTestDatabase();
  const namespace = takeNamespace();
  const connection = await Connection.connect({ address: temporalAddress() });
  await ensureNamespace(connection, namespace);
  const temporal = new Client({ connection, namespace });
  const sql = connect(database.url, { applicationName: 'api-test' });
  const catalogue = await loadCatalogue(
    [
      { path: path.join(packageRoot(), 'templates'), source: 'built-in' },
      { path: path.join(import.meta.dirname, 'templates'), source: 'local' },
    ],
    steps,
    silent,
  );
  const hub = createListenHub(database.url, ['events', 'line', 'residency'], silent);
  const buffer = createMetricBuffer();
  const deps: ServicesDeps = {
    sql,
    temporal: async () => temporal,
    log: silent,
    config: { priorityLevels: 60, temporalTimeoutMs: 5_000, queueMax: 10_000, version: '0.0.0-test' },
    catalogue: () => catalogue,
    steps,
    deployment: { numCtx: 4096, allowedRegistries: defaultRegistries, timeoutSecondsMax: 3600, gitSchemes: ['https', 'ssh'] },
    flushMetrics: buffer.flush,
    configuration: { environment: 'test', settings: [] },
    events: { streamsMax: 50, streamsPerKey: 5, listen: (onNotify) => hub.listen('events', onNotify) },
    listenChanges: (channel, onNotify) => hub.listen(channel, onNotify),
    ...overrides.deps,
  };
  const services = createServices(deps);
  const app = createApp({ services, log: silent, meter: buffer, config: { ...apiConfig, ...overrides.config } });
  const key = async (userId: string, role: Role) => (await services.createKey({ name: userId, userId, role, expiresAt: null })).key;
  const keys = { admin: await key('root', 'admin'), ann: await key('ann', 'user'), bob: await key('bob', 'user'), viewer: await key('ann', 'viewer') };

  const request: ApiUnderTest['request'] = async (who, method, url, body, headers = {}) => {
    const answer = await app.request(url, {
      method,
      headers: { ...(who === null ? {} : { 'X-API-Key': who }), ...(body === undefined ? {} : { 'Content-Type': 'application/json' }), ...headers },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    await services.settled(); // an answer does not wait for Temporal; these tests look at what follows
    await checkAnswer(method, new URL(url, 'http://localhost').pathname, answer);
    return answer;
  };

  return {
    database,
    services,
    temporal,
    keys,
    deps,
    app,
    request,
    async task(who, fields = {}) {
      const answer = await request(who, 'POST', '/api/v1/tasks', {
        template: 'ollama-inference',
        parameters: { model: 'llama3.2', prompt: `hello ${randomUUID()}` },
        ...fields,
      });
      if (answer.status !== 201) throw new Error(`no task: ${await answer.text()}`);
      return (await answer.json()) as TaskView;
    },
    async stop() {
      await services.endStreams();
      await hub.close();
      await disconnect(sql);
      await connection.close();
      await database.drop();
    },
  };
}
