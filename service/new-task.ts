import { createHash, randomUUID } from 'node:crypto';
import { parseTaskId } from '../contract/ids.js';
import type { JsonObject, JsonValue } from '../contract/json.js';
import type { Plan } from '../contract/plan.js';
import { defaultLevel, exactOfLevel } from '../contract/priority.js';
import { type Fault, ProblemError } from '../contract/problems.js';
import type { CreateTaskRequest } from '../contract/schemas/task.js';
import type { LargeAmount, NewTask } from '../db/tasks.js';
import type { Caller } from './caller.js';
import { modelsOf } from './models-of.js';

/** What a new task has beside its request and its plan. */
export interface NewTaskDetails {
  /** ids, without duplicates */
  readonly dependsOn: readonly string[];
  readonly idempotency: NewTask['idempotency'];
  readonly queueMax: number;
  readonly lineage?: NewTask['lineage'];
}

/** A task to store, under an id of its own. */
export function newTask(caller: Caller, request: CreateTaskRequest, plan: Plan, details: NewTaskDetails): NewTask {
  const { retry, limits, resource_requirements } = request;
  return {
    id: randomUUID(),
    name: request.name ?? request.template,
    description: request.description ?? null,
    exact: exactOfLevel(request.priority ?? defaultLevel),
    priorityGiven: request.priority !== undefined,
    userId: caller.userId,
    parameters: plan.parameters,
    plan,
    // What the caller asked for beside the template, kept for the steps and for the task's later attempts.
    request: JSON.parse(JSON.stringify({ retry, limits, resource_requirements })) as JsonObject,
    metadata: request.metadata,
    agentAssigned: request.agent_assigned ?? null,
    models: modelsOf(plan.steps),
    lineage: null,
    ...details,
  };
}

/**
 * Reads the ids that a request waits for.
 * @throws {ProblemError} invalid_dependency for what is no id, and for an id that is named twice
 */
export function dependencyIds(texts: readonly string[]): string[] {
  const ids: string[] = [];
  const seen = new Set<string>();
  const faults: Fault[] = [];
  for (const [index, text] of texts.entries()) {
    const path = `depends_on[${index}]`;
    const id = parseTaskId(text);
    if (id === undefined) faults.push({ path, expected: 'the id of a task', got: 'another text', message: 'This is not the id of a task.' });
    else if (seen.has(id)) faults.push({ path, expected: 'each task once', got: id, message: 'This task is named twice.' });
    else ids.push(id);
    if (id !== undefined) seen.add(id);
  }
  if (faults.length > 0) throw new ProblemError('invalid_dependency', faults[0]?.message ?? '', { errors: faults });
  return ids;
}

/** @param texts as the request names them; `unknown`: the ids among them that are no tasks of the caller's */
export function unknownDependencies(texts: readonly string[], unknown: readonly string[]): ProblemError {
  const errors = texts.flatMap((text, index): Fault[] => {
    const id = parseTaskId(text);
    if (id === undefined || !unknown.includes(id)) return [];
    return [{ path: `depends_on[${index}]`, expected: 'the id of one of your tasks', got: id, message: 'There is no task with this id.' }];
  });
  return new ProblemError('invalid_dependency', 'A task can wait only for tasks that exist.', { errors });
}

export function queueFull(queued: number, queueMax: number): ProblemError {
  return new ProblemError('queue_full', `${queued} tasks are queued already, and ${queueMax} may be; try again later.`);
}

/** Faults of a task that asks for more than there is. */
export function resourcesExceeded(amounts: readonly LargeAmount[]): ProblemError {
  const errors = amounts.map(({ pool, amount, total }): Fault => {
    const message = total === null ? `There is no pool "${pool}".` : `The task asks for ${amount} of the pool "${pool}", and there is ${total} of it.`;
    return {
      path: `resource_requirements (${pool})`,
      expected: total === null ? 'a pool of the configuration' : `at most ${total}`,
      got: String(amount),
      message,
    };
  });
  return new ProblemError('resources_exceeded', errors.map(({ message }) => message).join(' '), { errors });
}

/** SHA-256 by which two spellings of one request are equal; the default priority may be spelled out. */
export function requestHash(request: object): Buffer {
  return createHash('sha256')
    .update(canonical({ priority: defaultLevel, ...request } as JsonValue))
    .digest();
}

/** JSON with the keys of every object in order. */
function canonical(value: JsonValue | undefined): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  const entries = Object.entries(value).filter(([, item]) => item !== undefined);
  return `{${entries
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, item]) => `${JSON.stringify(key)}:${canonical(item)}`)
    .join(',')}}`;
}
