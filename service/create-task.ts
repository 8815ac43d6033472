import { createHash, randomUUID } from 'node:crypto';
import { parseTaskId } from '../contract/ids.js';
import type { JsonObject, JsonValue } from '../contract/json.js';
import type { Plan } from '../contract/plan.js';
import { exactOfLevel } from '../contract/priority.js';
import { type Fault, ProblemError } from '../contract/problems.js';
import type { CreateTaskRequest, TaskView } from '../contract/schemas/task.js';
import { findIdempotent } from '../db/idempotency.js';
import { type InsertedTask, insertTask, type NewTask, readTask } from '../db/tasks.js';
import { type Caller, ownerOf } from './caller.js';
import type { ServiceDeps } from './deps.js';
import { startTask, type StartsUnderWay } from './start-task.js';
import { taskView } from './task-view.js';
import { connectionBroke } from './unavailable.js';

/** Makes the plan of a task. @throws {ProblemError} template_not_found, invalid_parameters */
export type Compile = (request: CreateTaskRequest) => Plan;

export interface CreatedTask {
  readonly task: TaskView;
  /** false: the idempotency key was used for this request before, and this is its task */
  readonly created: boolean;
}

export type CreateTaskUseCase = (caller: Caller, request: CreateTaskRequest, idempotencyKey: string | null) => Promise<CreatedTask>;

/** Tries to store a task when the connection breaks while nobody knows whether the commit was carried out. */
const storeTries = 3;

/**
 * Validates, compiles and stores a task, then starts its Temporal workflow. While Temporal is away the task is accepted all the same
 * and the outbox starts it.
 * @throws {ProblemError} template_not_found, invalid_parameters, invalid_dependency, idempotency_conflict, queue_full
 */
export function createTaskUseCase(deps: ServiceDeps, compile: Compile, starts: StartsUnderWay): CreateTaskUseCase {
  const { sql } = deps;

  /** The task that a key stands for, when it was taken by the same request. */
  async function earlier(caller: Caller, key: string, bodyHash: Buffer): Promise<CreatedTask | null> {
    const remembered = await findIdempotent(sql, caller.userId, key);
    if (remembered === null) return null;
    if (!remembered.bodyHash.equals(bodyHash)) throw new ProblemError('idempotency_conflict', 'This Idempotency-Key was used for a request with another body.');
    const row = await readTask(sql, remembered.taskId, null);
    return row === null ? null : { task: taskView(row), created: false };
  }

  return async (caller, request, idempotencyKey) => {
    const bodyHash = createHash('sha256')
      .update(canonical(request as unknown as JsonValue))
      .digest();
    if (idempotencyKey !== null) {
      const known = await earlier(caller, idempotencyKey, bodyHash);
      if (known !== null) return known;
    }
    const dependsOn = dependencies(request.depends_on);
    const plan = compile(request);
    const task: NewTask = {
      id: randomUUID(),
      name: request.name ?? request.template,
      description: request.description ?? null,
      exact: exactOfLevel(request.priority),
      userId: caller.userId,
      parameters: plan.parameters,
      plan,
      request: asked(request),
      metadata: request.metadata,
      agentAssigned: request.agent_assigned ?? null,
      dependsOn,
      queueMax: deps.config.queueMax,
      idempotency: idempotencyKey === null ? null : { key: idempotencyKey, bodyHash },
    };
    const starter = starts.hasRoom() ? 'creator' : 'outbox';
    const stored = await store(deps, task, { owner: ownerOf(caller), starter });
    if (stored.outcome === 'unknown_dependencies') throw unknownDependencies(request.depends_on, stored.ids);
    if (stored.outcome === 'queue_full')
      throw new ProblemError('queue_full', `${stored.queued} tasks are queued already, and ${deps.config.queueMax} may be; try again later.`);
    if (stored.outcome === 'key_taken') {
      const winner = await earlier(caller, idempotencyKey ?? '', bodyHash);
      if (winner !== null) return winner;
      throw new ProblemError('unavailable', 'Another request with this Idempotency-Key is under way; try again.');
    }
    // The task is safe now, so nobody waits for Temporal.
    if (starter === 'creator') starts.add(startTask(deps, { taskId: task.id, name: task.name, attempt: 1, plan, exact: task.exact, userId: task.userId }));
    return { task: taskView(stored.row), created: true };
  };
}

/** Stores once, however often the connection breaks: the id is chosen before, so a repeat finds what was committed. */
async function store({ sql, log }: ServiceDeps, task: NewTask, options: Parameters<typeof insertTask>[2]): Promise<InsertedTask> {
  for (let tryNo = 1; ; tryNo += 1) {
    try {
      return await insertTask(sql, task, options);
    } catch (error) {
      if (!connectionBroke(error) || tryNo === storeTries) throw error;
      log.warn({ err: error, task_id: task.id }, 'connection lost while storing a task; storing it again under the same id');
    }
  }
}

/** @throws {ProblemError} invalid_dependency for what is no id, and for an id that is named twice */
function dependencies(texts: readonly string[]): string[] {
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

function unknownDependencies(texts: readonly string[], unknown: readonly string[]): ProblemError {
  const errors = texts.flatMap((text, index): Fault[] => {
    const id = parseTaskId(text);
    if (id === undefined || !unknown.includes(id)) return [];
    return [{ path: `depends_on[${index}]`, expected: 'the id of one of your tasks', got: id, message: 'There is no task with this id.' }];
  });
  return new ProblemError('invalid_dependency', 'A task can wait only for tasks that exist.', { errors });
}

/** What the caller asked for beside the template, kept for the steps and for the task's later attempts. */
function asked({ retry, limits, resource_requirements }: CreateTaskRequest): JsonObject {
  return JSON.parse(JSON.stringify({ retry, limits, resource_requirements })) as JsonObject;
}

/** JSON with the keys of every object in order, so that two spellings of one request are equal. */
function canonical(value: JsonValue | undefined): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  const entries = Object.entries(value).filter(([, item]) => item !== undefined);
  return `{${entries
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, item]) => `${JSON.stringify(key)}:${canonical(item)}`)
    .join(',')}}`;
}
