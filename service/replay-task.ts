import type { JsonObject } from '../contract/json.js';
import type { CreateTaskRequest, ReplayRequest } from '../contract/schemas/task.js';
import { levelOfExact } from '../contract/priority.js';
import { type ReplaySource, readReplaySource } from '../db/tasks.js';
import { type Caller, ownerOf } from './caller.js';
import type { CreatedTask, CreateTaskUseCase } from './create-task.js';
import type { ServiceDeps } from './deps.js';
import { taskIdOf, taskNotFound } from './task-id.js';

/**
 * Submits the input of a task again as a new one, with what the caller changes, under the newest version of its template.
 * @throws {ProblemError} task_not_found, and what createTask throws; the input may no longer fit the template
 */
export function replayTaskUseCase({ sql }: ServiceDeps, createTask: CreateTaskUseCase) {
  return async (caller: Caller, idText: string, changes: ReplayRequest, idempotencyKey: string | null): Promise<CreatedTask> => {
    const source = await readReplaySource(sql, taskIdOf(idText), ownerOf(caller));
    if (source === null) throw taskNotFound();
    return createTask(caller, replayed(source, changes), idempotencyKey, { replayedFrom: source.id, originId: source.originId ?? source.id });
  };
}

/** The request that a replay is: what the old one asked for, with the changes over it. Given parameters replace those of the same name, null takes one away. */
export function replayed(source: ReplaySource, changes: ReplayRequest): CreateTaskRequest {
  const parameters: JsonObject = { ...source.parameters, ...changes.parameters };
  // A null for what the old task has not stays: it means "none" for a parameter that the template declares, and any other name is refused as unknown.
  for (const [name, value] of Object.entries(changes.parameters ?? {})) if (value === null && Object.hasOwn(source.parameters, name)) delete parameters[name];
  const template = changes.template ?? source.template;
  return {
    ...source.request,
    template,
    parameters,
    depends_on: changes.depends_on ?? [],
    // A task that was named after its template is named after its new one.
    ...(changes.name !== undefined ? { name: changes.name } : source.name === source.template ? {} : { name: source.name }),
    ...(changes.description !== undefined ? { description: changes.description } : source.description === null ? {} : { description: source.description }),
    ...(source.agentAssigned === null ? {} : { agent_assigned: source.agentAssigned }),
    metadata: changes.metadata ?? source.metadata,
    ...(changes.priority !== undefined ? { priority: changes.priority } : source.priorityGiven ? { priority: levelOfExact(source.exact) } : {}),
    ...(changes.retry === undefined ? {} : { retry: changes.retry }),
    ...(changes.limits === undefined ? {} : { limits: changes.limits }),
  };
}
