import { setTimeout as delay } from 'node:timers/promises';
import type { Connection } from '@temporalio/client';
import { msToTs } from '@temporalio/common/lib/time.js';
import { isAlreadyExists, isNotFound } from './grpc-status.js';
import { compareVersions, serverVersionMin } from './server/choose-temporal.js';

/** By which a person finds a task's run in the Temporal Web UI; all of type Keyword. */
export const searchAttributes = ['TaskId', 'Template', 'Model', 'Status', 'Owner'] as const;

const retentionDays = 30;
const keyword = 2; // temporal.api.enums.v1.IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD

/** What a server says of itself, as far as we depend on it. */
export interface ServerFacts {
  readonly serverVersion: string;
  /**
   * Whether polls end with their worker (`frontend.enableCancelWorkerPollsOnShutdown`). Where false,
   * TEMPORAL_POLL_SHUTDOWN_INTERRUPT_WAIT_MS has to be set before the first worker, else a stopping worker takes tasks with it.
   */
  readonly cancelsPollsOnShutdown: boolean;
}

/** The server is too old for us; the message is one sentence with the remedy. */
export class ServerTooOld extends Error {
  override readonly name = 'ServerTooOld';
}

/**
 * Makes a namespace ready: created when it is missing, closed runs kept for at least 30 days, search attributes registered.
 * May be repeated, also by several starters at once.
 * @throws {ServerTooOld}
 * @throws Error when the namespace is not served within `timeoutMs` (default 30 s)
 */
export async function ensureNamespace(connection: Connection, namespace: string, timeoutMs = 30_000): Promise<ServerFacts> {
  const deadlineMs = performance.now() + timeoutMs;
  const { serverVersion } = await connection.workflowService.getSystemInfo({});
  if (compareVersions(serverVersion, serverVersionMin) < 0) {
    throw new ServerTooOld(`The Temporal server is ${serverVersion}; ${serverVersionMin} or later is needed.`);
  }
  await createOrRaise(connection, namespace);
  await until(deadlineMs, `namespace ${namespace} is not served`, async () => {
    // Other than DescribeNamespace this goes through the server's cache of namespaces, as every later call does.
    await connection.workflowService.listWorkflowExecutions({ namespace, pageSize: 1 });
    return true;
  });
  await registerSearchAttributes(connection, namespace, deadlineMs);
  const { namespaceInfo } = await connection.workflowService.describeNamespace({ namespace });
  return { serverVersion, cancelsPollsOnShutdown: namespaceInfo?.capabilities?.workerPollCompleteOnShutdown === true };
}

async function createOrRaise(connection: Connection, namespace: string): Promise<void> {
  const retention = msToTs(retentionDays * 86_400_000);
  try {
    const { config } = await connection.workflowService.describeNamespace({ namespace });
    if (Number(config?.workflowExecutionRetentionTtl?.seconds ?? 0) < retentionDays * 86_400) {
      await connection.workflowService.updateNamespace({ namespace, config: { workflowExecutionRetentionTtl: retention } });
    }
  } catch (error) {
    if (!isNotFound(error)) throw error;
    try {
      await connection.workflowService.registerNamespace({ namespace, description: 'AI Task Orchestra', workflowExecutionRetentionPeriod: retention });
    } catch (again) {
      if (!isAlreadyExists(again)) throw again; // another starter was first
    }
  }
}

async function registerSearchAttributes(connection: Connection, namespace: string, deadlineMs: number): Promise<void> {
  const missing = async () => {
    const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace });
    return searchAttributes.filter((name) => customAttributes[name] === undefined);
  };
  await until(deadlineMs, `search attributes of ${namespace} are not registered`, async () => {
    const names = await missing();
    if (names.length === 0) return true;
    try {
      await connection.operatorService.addSearchAttributes({ namespace, searchAttributes: Object.fromEntries(names.map((name) => [name, keyword])) });
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
    }
    return (await missing()).length === 0;
  });
}

/** Asks every 100 ms; an error counts as no and is the cause when the time is over. */
async function until(deadlineMs: number, fault: string, ask: () => Promise<boolean>): Promise<void> {
  for (;;) {
    let cause: unknown;
    try {
      if (await ask()) return;
    } catch (error) {
      cause = error;
    }
    if (performance.now() > deadlineMs) throw new Error(fault, { cause });
    await delay(100);
  }
}
