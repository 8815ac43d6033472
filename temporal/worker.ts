import { type NativeConnection, Worker } from '@temporalio/worker';
import type { Logger } from 'pino';
import { workflowQueue } from '../contract/queues.js';
import { type BundleOptions, workflowBundle } from './bundle.js';

export interface WorkflowWorkerOptions {
  readonly connection: NativeConnection;
  readonly namespace: string;
  /** local activities, by name */
  readonly activities: object;
  readonly log: Logger;
  /** directory for the workflow bundle */
  readonly cacheDir: string;
  /** runs kept in memory between their tasks; with 400 waiting, 1000 give 42 tasks/s and 100 give 30. Default 1000 */
  readonly maxCachedWorkflows?: number;
  /** default 10 s */
  readonly graceMs?: number;
  /** another bundle than this installation's; see {@link BundleOptions} */
  readonly bundle?: Pick<BundleOptions, 'workflowsPath' | 'sources'>;
}

/** The worker of all workflows and of their local activities; one per engine, since it costs seconds and about 45 MB. */
export async function createWorkflowWorker(options: WorkflowWorkerOptions): Promise<Worker> {
  const codePath = await workflowBundle({ directory: options.cacheDir, log: options.log, ...options.bundle });
  return Worker.create({
    connection: options.connection,
    namespace: options.namespace,
    taskQueue: workflowQueue,
    workflowBundle: { codePath },
    activities: options.activities,
    // Only local activities run here; steps have their own workers.
    enableNonLocalActivities: false,
    maxConcurrentLocalActivityExecutions: 100,
    maxCachedWorkflows: options.maxCachedWorkflows ?? 1_000,
    maxEagerActivityReservationsPerWorkflowTask: 0,
    shutdownGraceTime: options.graceMs ?? 10_000,
  });
}

export interface ActivityWorkerOptions {
  readonly connection: NativeConnection;
  readonly namespace: string;
  readonly taskQueue: string;
  /** activities by name */
  readonly activities: object;
  /** activities that run at once, at least 1 */
  readonly slots: number;
  /** what a running activity gets to end after shutdown, before it is cancelled */
  readonly graceMs: number;
}

/** A worker of activities only: it comes and goes in about 5 ms, so a model's queue has one while the model is resident. */
export async function createActivityWorker(options: ActivityWorkerOptions): Promise<Worker> {
  return Worker.create({
    connection: options.connection,
    namespace: options.namespace,
    taskQueue: options.taskQueue,
    activities: options.activities,
    maxConcurrentActivityTaskExecutions: options.slots,
    // A grant is given to a free slot only, so more polls than slots would wait for nothing.
    maxConcurrentActivityTaskPolls: Math.min(5, Math.max(1, options.slots)),
    maxHeartbeatThrottleInterval: 2_000,
    defaultHeartbeatThrottleInterval: 2_000,
    shutdownGraceTime: options.graceMs,
  });
}
