import type { Client } from '@temporalio/client';
import type { Logger } from 'pino';
import { orderWorkflowId } from '../contract/ids.js';
import { workflowQueue } from '../contract/queues.js';
import type { Sql } from '../db/connect.js';
import { doneOutbox, laterOutbox, outboxDueMs, type TakenEntry, takeDue } from '../db/outbox.js';
import { readTaskToStart } from '../db/tasks.js';
import { isNotFound } from '../temporal/grpc-status.js';
import { signalOnce } from '../temporal/signal-once.js';
import { startTaskWorkflow } from '../temporal/start-task.js';
import { changeResidencyType, orderSignal, type ResidencyStart } from '../workflows/change-residency.messages.js';

/** Entries delivered at once. */
const limit = 50;
/** After this an entry that was taken counts as undelivered: its engine died, or Temporal does not answer. */
const leaseMs = 15_000;
const temporalTimeoutMs = 5_000;

export interface OutboxDeps {
  readonly sql: Sql;
  readonly client: Client;
  /** the server's `matching.priorityLevels` */
  readonly priorityLevels: number;
  readonly log: Logger;
}

/**
 * One run of the outbox loop: tells Temporal what a committed transaction promised. Every delivery may be repeated, since an engine
 * can die between a delivery and its note: starts by their workflow id, signals by their request id, orders by their own id.
 */
export function createOutboxDelivery({ sql, client, priorityLevels, log }: OutboxDeps): () => Promise<{ againInMs: number } | undefined> {
  return async () => {
    const due = await takeDue(sql, { limit, leaseMs });
    const more = await Promise.all(due.map(attempt));
    if (due.length === limit || more.includes(true)) return { againInMs: 0 };
    const dueMs = await outboxDueMs(sql);
    return dueMs === null ? undefined : { againInMs: Math.min(dueMs, leaseMs) };
  };

  /** @returns whether a further entry of the same workflow can be delivered now */
  async function attempt(entry: TakenEntry): Promise<boolean> {
    try {
      await client.withDeadline(Date.now() + temporalTimeoutMs, () => deliver(entry));
    } catch (error) {
      log.warn(
        { err: error, outbox: entry.id, kind: entry.kind, workflow_id: entry.workflowId, attempts: entry.attempts },
        'not delivered, will be tried again',
      );
      await laterOutbox(sql, entry.id, String(error));
      return false;
    }
    return doneOutbox(sql, entry);
  }

  async function deliver(entry: TakenEntry): Promise<void> {
    switch (entry.kind) {
      case 'start': {
        const task = entry.taskId === null ? null : await readTaskToStart(sql, entry.taskId);
        if (task) await startTaskWorkflow(client, task, { priorityLevels, timeoutMs: temporalTimeoutMs });
        return;
      }
      case 'cancel':
        return unlessGone(client.workflow.getHandle(entry.workflowId).cancel());
      case 'signal':
        return unlessGone(signalOnce(client, entry.workflowId, entry.payload.name, entry.payload.args, `outbox-${entry.id}`));
      case 'residency': {
        const start: ResidencyStart = { host: entry.payload.host };
        await client.workflow.signalWithStart(changeResidencyType, {
          workflowId: orderWorkflowId(entry.payload),
          taskQueue: workflowQueue,
          args: [start],
          signal: orderSignal,
          signalArgs: [entry.payload],
          staticSummary:
            entry.payload.pull === undefined ? `what ${entry.payload.host} holds in memory` : `fetches ${entry.payload.pull} to ${entry.payload.host}`,
        });
      }
    }
  }
}

/** A workflow that has ended needs neither a cancel nor a signal. */
async function unlessGone(call: Promise<unknown>): Promise<void> {
  try {
    await call;
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}
