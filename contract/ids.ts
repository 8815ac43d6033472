/** A task's identity: a lower-case UUID. */
export type TaskId = string;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/**
 * Reads a task id as callers write it: a UUID in any case, with or without the `task-` prefix of its Temporal workflow.
 * @returns the lower-case UUID, or undefined when the text is not one
 */
export function parseTaskId(text: string): TaskId | undefined {
  const id = text.toLowerCase().replace(/^task-/, '');
  return UUID.test(id) ? id : undefined;
}

/** The Temporal workflow id of a task; one task is one Temporal workflow, whatever its attempt. */
export function taskWorkflowId(taskId: TaskId): string {
  return `task-${taskId}`;
}

/** The task of a Temporal workflow id, or undefined when the workflow is not a task's. */
export function taskOfWorkflowId(workflowId: string): TaskId | undefined {
  return workflowId.startsWith('task-') ? parseTaskId(workflowId) : undefined;
}

/** The Temporal workflow id under which the residency of one host changes; one at a time per host. */
export function residencyWorkflowId(hostId: string): string {
  return `residency-${hostId}`;
}

/** The Temporal workflow id under which an order is carried out: that of its host, or one of its own when it fetches a model. */
export function orderWorkflowId({ id, host, pull }: { readonly id: string; readonly host: string; readonly pull?: string }): string {
  return pull === undefined ? residencyWorkflowId(host) : `fetch-${id}`;
}
