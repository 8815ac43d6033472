import { WorkflowIdConflictPolicy, WorkflowIdReusePolicy, type Client } from '@temporalio/client';
import { defineSearchAttributeKey, type SearchAttributePair, SearchAttributeType, TypedSearchAttributes } from '@temporalio/common';
import { taskWorkflowId } from '../contract/ids.js';
import { temporalPriorityKey } from '../contract/priority.js';
import { workflowQueue } from '../contract/queues.js';
import type { TaskToStart } from '../db/tasks.js';
import { isNotFound } from './grpc-status.js';
import { runTaskType, type TaskStart } from '../workflows/run-task.messages.js';

export interface StartOptions {
  /** the server's `matching.priorityLevels` */
  readonly priorityLevels: number;
  /** how long the server may take; a call that is not answered by then may still have started the workflow */
  readonly timeoutMs: number;
}

const keyword = (name: string) => defineSearchAttributeKey(name, SearchAttributeType.KEYWORD);
const attributes = { taskId: keyword('TaskId'), template: keyword('Template'), model: keyword('Model'), owner: keyword('Owner') };

/** Temporal keeps at most 200 bytes of a summary, and refuses longer ones. */
const summaryBytesMax = 200;

/**
 * Starts the Temporal workflow of a task's attempt. May be repeated: a running one is left alone, and a run that
 * comes after the attempt's end is told `stale` by its first line call. A run of an earlier attempt that still ends is ended at once.
 * @throws ServiceError of the SDK when the server does not answer in time
 */
export async function startTaskWorkflow(client: Client, task: TaskToStart, { priorityLevels, timeoutMs }: StartOptions): Promise<void> {
  const start: TaskStart = {
    taskId: task.taskId,
    attempt: task.attempt,
    plan: task.plan,
    exact: task.exact,
    priorityLevels,
    hearsLost: true,
    ...(task.first ? { first: task.first } : {}),
  };
  const startWith = (workflowIdConflictPolicy: WorkflowIdConflictPolicy) =>
    client.workflow.start(runTaskType, {
      workflowId: taskWorkflowId(task.taskId),
      taskQueue: workflowQueue,
      args: [start],
      workflowIdConflictPolicy,
      workflowIdReusePolicy: WorkflowIdReusePolicy.ALLOW_DUPLICATE,
      priority: { priorityKey: temporalPriorityKey(task.exact, priorityLevels) },
      memo: { task: task.taskId, attempt: task.attempt, template: task.plan.template, template_hash: task.plan.templateHash, owner: task.userId },
      typedSearchAttributes: new TypedSearchAttributes(searchAttributesOf(task)),
      staticSummary: firstBytes(task.name === task.plan.template ? task.name : `${task.plan.template}: ${task.name}`, summaryBytesMax),
    });
  await client.withDeadline(Date.now() + timeoutMs, async () => {
    if (task.attempt > 1 && (await runsEarlierAttempt(client, task))) await startWith(WorkflowIdConflictPolicy.TERMINATE_EXISTING);
    else await startWith(WorkflowIdConflictPolicy.USE_EXISTING);
  });
}

/** A cancelled run may take a while to end; the attempt after it would wait for nobody knows how long. */
async function runsEarlierAttempt(client: Client, task: TaskToStart): Promise<boolean> {
  try {
    const { status, memo } = await client.workflow.getHandle(taskWorkflowId(task.taskId)).describe();
    return status.name === 'RUNNING' && Number(memo?.['attempt']) < task.attempt;
  } catch (error) {
    if (isNotFound(error)) return false;
    throw error;
  }
}

function searchAttributesOf(task: TaskToStart): SearchAttributePair[] {
  const model = task.plan.steps.find((step) => step.model !== undefined)?.model;
  return [
    { key: attributes.taskId, value: task.taskId },
    { key: attributes.template, value: task.plan.template },
    { key: attributes.owner, value: task.userId },
    ...(model === undefined ? [] : [{ key: attributes.model, value: model.name }]),
  ];
}

/** The start of a text, cut between characters. */
function firstBytes(text: string, bytesMax: number): string {
  let bytes = 0;
  let end = 0;
  for (const character of text) {
    bytes += Buffer.byteLength(character);
    if (bytes > bytesMax) break;
    end += character.length;
  }
  return text.slice(0, end);
}
