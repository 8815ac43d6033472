import type { Client, WorkflowExecutionInfo } from '@temporalio/client';
import { defaultPayloadConverter } from '@temporalio/common';
import { taskOfWorkflowId } from '../contract/ids.js';
import { runTaskType, type TaskStart } from '../workflows/run-task.messages.js';

/** The latest run of a task that Temporal still has and that was not stale. */
export interface TaskRun {
  readonly start: TaskStart;
  readonly status: 'RUNNING' | 'COMPLETED' | 'FAILED' | 'CANCELLED' | 'TERMINATED' | 'TIMED_OUT';
  readonly runId: string;
  readonly owner: string;
  /** as the caller named it, cut to what Temporal keeps of a summary; null: after its template */
  readonly name: string | null;
  readonly startedAt: Date;
  /** null while it runs */
  readonly closedAt: Date | null;
  /** code and message of a failed run */
  readonly failure: { readonly code: string; readonly message: string } | null;
}

/**
 * Reads what Temporal keeps of the tasks, oldest first. Takes three calls for each run, so it is for a repair, not for a loop.
 * @param wanted asked before a run is read
 */
export async function* taskRuns(client: Client, wanted: (taskId: string) => boolean): AsyncGenerator<TaskRun> {
  const byTask = new Map<string, WorkflowExecutionInfo[]>();
  for await (const info of client.workflow.list({ query: `WorkflowType = '${runTaskType}'` })) {
    const taskId = taskOfWorkflowId(info.workflowId);
    if (taskId !== undefined && wanted(taskId)) byTask.set(taskId, [...(byTask.get(taskId) ?? []), info]);
  }
  const newestFirst = (a: WorkflowExecutionInfo, b: WorkflowExecutionInfo) => b.startTime.getTime() - a.startTime.getTime();
  const tasks = [...byTask.values()].map((runs) => runs.sort(newestFirst));
  for (const runs of tasks.sort((a, b) => newestFirst(b[0] as WorkflowExecutionInfo, a[0] as WorkflowExecutionInfo))) {
    for (const info of runs) {
      const run = await readRun(client, info);
      if (run === null) continue;
      yield run;
      break;
    }
  }
}

/** Null for a run that was told `stale`: it has done nothing, and an older one has. */
async function readRun(client: Client, info: WorkflowExecutionInfo): Promise<TaskRun | null> {
  const execution = { workflowId: info.workflowId, runId: info.runId };
  const { namespace } = client.options;
  const first = await client.workflowService.getWorkflowExecutionHistory({ namespace, execution, maximumPageSize: 1 });
  const input = first.history?.events?.[0]?.workflowExecutionStartedEventAttributes?.input?.payloads?.[0];
  if (!input) throw new Error(`the run ${info.runId} of ${info.workflowId} has no input`);
  const start = defaultPayloadConverter.fromPayload<TaskStart>(input);
  const summary = await client.workflow
    .getHandle(info.workflowId, info.runId)
    .describe()
    .then((run) => run.staticSummary());
  const prefix = `${start.plan.template}: `;
  const closed = info.status.name === 'RUNNING' ? null : await closeEvent(client, execution);
  const result = closed?.workflowExecutionCompletedEventAttributes?.result?.payloads?.[0];
  if (result && defaultPayloadConverter.fromPayload<{ status?: string }>(result).status === 'stale') return null;
  const failure = closed?.workflowExecutionFailedEventAttributes?.failure;
  return {
    start,
    status: info.status.name as TaskRun['status'],
    runId: info.runId,
    owner: String(info.memo?.['owner'] ?? 'admin'),
    name: summary?.startsWith(prefix) === true ? summary.slice(prefix.length) : null,
    startedAt: info.startTime,
    closedAt: info.closeTime ?? null,
    failure: failure ? { code: failure.applicationFailureInfo?.type || 'unexpected', message: failure.message ?? 'the task failed' } : null,
  };
}

async function closeEvent(client: Client, execution: { workflowId: string; runId: string }) {
  const { history } = await client.workflowService.getWorkflowExecutionHistory({
    namespace: client.options.namespace,
    execution,
    historyEventFilterType: closeEventOnly,
  });
  return history?.events?.[0];
}

/** temporal.api.enums.v1.HistoryEventFilterType.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT */
const closeEventOnly = 2;
