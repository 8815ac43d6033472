import type { Client } from '@temporalio/client';
import type { Logger } from 'pino';
import type { Workspaces } from '../activities/workspace.js';
import { failureCodes } from '../contract/failure.js';
import { orderWorkflowId, taskOfWorkflowId } from '../contract/ids.js';
import type { Sql } from '../db/connect.js';
import { closeOutside, endedAttempts, finalTasks, openTasks, type ReconcileTask, reopenTask, requeueStart } from '../db/reconcile.js';
import { abandonOrder, openOrders } from '../db/residency.js';
import { isNotFound } from '../temporal/grpc-status.js';
import { runTaskType } from '../workflows/run-task.messages.js';

/** A task that changed within this time may be between its commit and its start. */
const unchangedMs = 15_000;
/** Every open task is compared with Temporal this often; between, only those that Temporal names as ended. */
const fullEveryMs = 5 * 60_000;
/** Visibility lags behind, so what it is asked for overlaps with what it was asked for before. */
const overlapMs = 60_000;
const pageSize = 500;
/** A server that takes a call and never answers must not end this loop. */
const describeTimeoutMs = 5_000;
const pageTimeoutMs = 30_000;

export interface ReconcileDeps {
  readonly sql: Sql;
  readonly client: Client;
  readonly workspaces: Workspaces;
  /** called when starts were given back to the outbox */
  readonly onOutbox: () => void;
  readonly log: Logger;
}

/**
 * One run of the reconcile loop: tasks whose workflow ended without writing its end (terminated, timed out) are closed, tasks without a
 * workflow are given to the outbox with the same attempt, final tasks whose run was reset outside are opened again, residency orders
 * without a running workflow are given up, and workspaces of ended attempts are removed. At the start and every five minutes all open
 * tasks are looked at; between, what Temporal lists as ended or reset.
 */
export function createReconciler({ sql, client, workspaces, onOutbox, log }: ReconcileDeps): () => Promise<undefined> {
  let fullAtMs = Number.NEGATIVE_INFINITY;
  let askedAtMs = Date.now() - fullEveryMs;
  return async () => {
    if (performance.now() - fullAtMs >= fullEveryMs) {
      await lookAtAll();
      await workspaces.sweep((found) => endedAttempts(sql, found));
      fullAtMs = performance.now();
    }
    const since = new Date(askedAtMs - overlapMs).toISOString();
    const beganAtMs = Date.now();
    const endedOutside = await taskIds(`ExecutionStatus IN ('Terminated', 'TimedOut') AND CloseTime > '${since}'`);
    if (endedOutside.length > 0) for (const task of await openTasks(sql, { ids: endedOutside, unchangedMs: 0, limit: pageSize })) await lookAtOpen(task);
    // Nobody started them: their creator died before its call, and the outbox row is gone.
    for (const task of await openTasks(sql, { neverRun: true, unchangedMs, limit: pageSize })) await lookAtOpen(task);
    await lookAtOrders();
    const begun = await taskIds(`ExecutionStatus = 'Running' AND StartTime > '${since}'`);
    if (begun.length > 0) for (const task of await finalTasks(sql, begun)) await lookAtFinal(task);
    askedAtMs = beganAtMs;
    return undefined;
  };

  async function taskIds(condition: string): Promise<string[]> {
    const ids: string[] = [];
    const listed = client.workflow.list({ query: `WorkflowType = '${runTaskType}' AND ${condition}`, pageSize })[Symbol.asyncIterator]();
    for (;;) {
      // each page by itself: there may be any number of them
      const next = await client.withDeadline(Date.now() + pageTimeoutMs, () => listed.next());
      if (next.done === true) return ids;
      const id = taskOfWorkflowId(next.value.workflowId);
      if (id !== undefined) ids.push(id);
    }
  }

  async function lookAtAll(): Promise<void> {
    const running = new Set(await taskIds("ExecutionStatus = 'Running'"));
    for (let after: string | undefined; ; ) {
      const page: ReconcileTask[] = await openTasks(sql, { unchangedMs: 0, limit: pageSize, ...(after === undefined ? {} : { after }) });
      for (const task of page) if (!running.has(task.taskId)) await lookAtOpen(task);
      after = page.at(-1)?.taskId;
      if (page.length < pageSize) return;
    }
  }

  /** @returns whether the task is closed now */
  async function lookAtOpen(task: ReconcileTask): Promise<boolean> {
    if (task.startPending) return false;
    const run = await describe(task.workflowId);
    if (run?.status === 'RUNNING') return false;
    // Without a workflow, or with one that ended before this attempt began, the attempt was never started.
    if (run === null || task.runId === null) {
      if (!(await requeueStart(sql, task))) return false;
      log.warn({ task_id: task.taskId, workflow_id: task.workflowId, attempt: task.attempt }, 'a task had no workflow; it is started again');
      onOutbox();
      return false;
    }
    const message = `its run was ended from outside: ${run.status.toLowerCase().replaceAll('_', ' ')}`;
    const closed = await closeOutside(sql, task, { code: failureCodes.endedOutside, message });
    if (closed) log.warn({ task_id: task.taskId, workflow_id: task.workflowId, attempt: task.attempt }, `a task is closed: ${message}`);
    return closed;
  }

  /** An order whose workflow was terminated, or failed, would stay open for ever, and no other is given to its host meanwhile. */
  async function lookAtOrders(): Promise<void> {
    for (const order of await openOrders(sql, unchangedMs)) {
      const run = await describe(orderWorkflowId(order));
      if (run?.status === 'RUNNING') continue;
      const message = `the workflow of the order is not running: ${run === null ? 'there is none' : run.status.toLowerCase().replaceAll('_', ' ')}`;
      await abandonOrder(sql, order, { code: failureCodes.endedOutside, message, retryable: true });
      log.warn({ host: order.host, order: order.id, load: order.load?.key ?? null }, `a change of models is given up and will be ordered anew: ${message}`);
    }
  }

  async function lookAtFinal(task: ReconcileTask): Promise<void> {
    const run = await describe(task.workflowId);
    if (run?.status !== 'RUNNING' || run.runId === run.firstRunId || run.runId === task.runId) return;
    if (await reopenTask(sql, task, run.runId))
      log.warn({ task_id: task.taskId, workflow_id: task.workflowId, run_id: run.runId }, 'the run of a final task was reset outside; the task goes on');
  }

  async function describe(workflowId: string): Promise<{ status: string; runId: string; firstRunId: string } | null> {
    try {
      const { status, runId, raw } = await client.withDeadline(Date.now() + describeTimeoutMs, () => client.workflow.getHandle(workflowId).describe());
      return { status: status.name, runId, firstRunId: raw.workflowExecutionInfo?.firstRunId ?? runId };
    } catch (error) {
      if (isNotFound(error)) return null;
      throw error;
    }
  }
}
