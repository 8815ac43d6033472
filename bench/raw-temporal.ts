import { randomUUID } from 'node:crypto';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Client } from '@temporalio/client';
import { bundleWorkflowCode, type NativeConnection, Worker } from '@temporalio/worker';
import { connectClient, connectNative } from '../temporal/client.js';
import { createActivityWorker } from '../temporal/worker.js';

const workflowQueue = 'raw-workflows';
const stepQueue = 'raw-steps';

/** The peer of every figure: workflows of one activity on the same server, with the worker settings that the product uses. */
export interface RawTemporal {
  /** Starts a workflow and does not wait for its end. */
  start(): Promise<{ result(): Promise<unknown> }>;
  /** Starts one whose activity comes after a signal. */
  startOnSignal(): Promise<{ go(): Promise<void>; result(): Promise<unknown> }>;
  stop(): Promise<void>;
}

export async function startRawTemporal(
  target: { address: string; namespace: string },
  slots: number,
  work: (text: string) => Promise<string> = async (text) => text,
): Promise<RawTemporal> {
  const client: Client = await connectClient(target);
  const connection: NativeConnection = await connectNative(target);
  const extension = extname(fileURLToPath(import.meta.url));
  const workflowBundle = await bundleWorkflowCode({
    workflowsPath: join(import.meta.dirname, `raw-workflows${extension}`),
    logger: { log() {}, trace() {}, debug() {}, info() {}, warn() {}, error() {} },
  });
  const workflows = await Worker.create({ connection, namespace: target.namespace, taskQueue: workflowQueue, workflowBundle, maxCachedWorkflows: 1_000 });
  const steps = await createActivityWorker({
    connection,
    namespace: target.namespace,
    taskQueue: stepQueue,
    activities: { work },
    slots,
    graceMs: 1_000,
  });
  const running = Promise.all([workflows.run(), steps.run()]);
  return {
    start: () => client.workflow.start('rawOneStep', { workflowId: `raw-${randomUUID()}`, taskQueue: workflowQueue, args: ['a short text'] }),
    async startOnSignal() {
      const handle = await client.workflow.start('rawOnSignal', { workflowId: `raw-${randomUUID()}`, taskQueue: workflowQueue, args: ['a short text'] });
      return { go: () => handle.signal('go'), result: () => handle.result() };
    },
    async stop() {
      workflows.shutdown();
      steps.shutdown();
      await running;
      await connection.close();
      await client.connection.close();
    },
  };
}
