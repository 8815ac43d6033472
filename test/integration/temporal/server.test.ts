import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Connection } from '@temporalio/client';
import pino from 'pino';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { workflowQueue } from '../../../contract/queues.js';
import { workflowBundle } from '../../../temporal/bundle.js';
import { connectClient, connectNative } from '../../../temporal/client.js';
import { ensureNamespace, searchAttributes } from '../../../temporal/namespace.js';
import { TemporalUnavailable, provideTemporal } from '../../../temporal/server/provide-temporal.js';
import { askServerVersion, examineBinary, freePort } from '../../../temporal/server/server-version.js';
import { temporalCommand } from '../../../temporal/server/temporal-command.js';
import { createActivityWorker, createWorkflowWorker } from '../../../temporal/worker.js';
import { startFaultProxy } from '../../support/fault-proxy.js';
import { eventually } from '../../support/servers.js';

const log = pino({ level: 'silent' });
const cacheDir = join(homedir(), '.cache', 'ai-task-orchestra');
let directory: string;
let address: string;
let port: number;
let server: ChildProcess;
const said: string[] = [];

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'temporal-'));
  const provided = await provideTemporal({ address: null, path: process.env.PATH ?? '', cacheDir, say: (line) => said.push(line) });
  if (provided.kind !== 'own') throw new Error('an own server was asked for');
  port = await freePort();
  address = `127.0.0.1:${port}`;
  const { file, args } = temporalCommand({ binary: provided.binary, directory, port, uiPort: await freePort(), namespaces: [] });
  server = spawn(file, args, { stdio: 'ignore' });
  await eventually(async () => (await askServerVersion(address, 1_000)) === provided.serverVersion, { timeoutMs: 60_000 });
}, 900_000);

afterAll(async () => {
  server.kill('SIGTERM');
  await once(server, 'exit');
  await rm(directory, { recursive: true, force: true });
});

test('the server that is found says of itself that it is new enough, and the choice is told with its reason', () => {
  expect(said.at(-1)).toMatch(/^Temporal: \/.* since .*server 1\.3[1-9]/);
});

test('a namespace is made, kept for 30 days and searchable, however many start at once', async () => {
  const connection = await Connection.connect({ address });
  try {
    const facts = await Promise.all([1, 2, 3].map(() => ensureNamespace(connection, 'three-starters')));
    expect(facts).toEqual([1, 2, 3].map(() => expect.objectContaining({ cancelsPollsOnShutdown: true })));
    const { config } = await connection.workflowService.describeNamespace({ namespace: 'three-starters' });
    expect(Number(config?.workflowExecutionRetentionTtl?.seconds)).toBe(30 * 86_400);
    const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace: 'three-starters' });
    expect(Object.keys(customAttributes)).toEqual(expect.arrayContaining([...searchAttributes]));
  } finally {
    await connection.close();
  }
}, 60_000);

test('a workflow runs from the cached bundle, with a local activity and a step on its own queue', async () => {
  const target = { address, namespace: 'three-starters' };
  const changing = join(directory, 'changing');
  await mkdir(changing);
  const [client, connection] = await Promise.all([connectClient(target), connectNative(target)]);
  const standIn = join(import.meta.dirname, 'stand-in');
  const bundle = { workflowsPath: join(standIn, 'index.ts'), sources: [standIn, changing] };
  try {
    const workflows = await createWorkflowWorker({
      connection,
      namespace: target.namespace,
      log,
      cacheDir: directory,
      bundle,
      activities: { enter: async (name: string) => `hello ${name}` },
    });
    const general = await createActivityWorker({
      connection,
      namespace: target.namespace,
      taskQueue: 'general',
      slots: 2,
      graceMs: 1_000,
      activities: { shout: async (text: string) => text.toUpperCase() },
    });
    const result = await workflows.runUntil(
      general.runUntil(client.workflow.execute('standIn', { args: ['line'], workflowId: 'stand-in', taskQueue: workflowQueue })),
    );
    expect(result).toBe('HELLO LINE');

    const built = await workflowBundle({ directory, log, ...bundle });
    expect(await readdir(join(directory, 'bundles'))).toHaveLength(1);
    await writeFile(join(changing, 'other.ts'), 'export const changed = true;\n');
    expect(await workflowBundle({ directory, log, ...bundle })).not.toBe(built);
  } finally {
    await client.connection.close();
    await connection.close();
  }
}, 120_000);

test('an address where nobody answers ends in one sentence that says what to do', async () => {
  const nowhere = `127.0.0.1:${await freePort()}`;
  const fault = await provideTemporal({ address: nowhere, path: '', cacheDir, say: () => {} }).catch((error: unknown) => error);
  expect(fault).toBeInstanceOf(TemporalUnavailable);
  expect(String(fault)).toMatch(/does not answer: start it, or unset TEMPORAL_ADDRESS/);
}, 60_000);

test('a program on the PATH that is no server is told apart from one', async () => {
  expect(await examineBinary('/bin/false', directory)).toMatchObject({ fault: expect.stringContaining('does not start') });
});

test('a port that is taken is not offered', async () => {
  expect(await freePort(port)).not.toBe(port);
});

test('a call that is being tried again when its connection is closed fails, and harms nobody else', async () => {
  const proxy = await startFaultProxy({ host: '127.0.0.1', port });
  onTestFinished(() => proxy.close());
  const client = await connectClient({ address: `127.0.0.1:${proxy.port}`, namespace: 'default' });
  proxy.fault({ kind: 'refuse' });
  proxy.cutAll();
  const refused = proxy.connections();
  const call = client.workflowService.getSystemInfo({}).then(
    () => 'answered',
    (error: Error) => error.message,
  );
  await eventually(() => proxy.connections() > refused); // the channel has failed, so the call waits for its next try
  await client.connection.close();
  expect(await call).toMatch(/shut down|cancelled/i);
}, 60_000);
