import type { Plan } from '../contract/plan.js';
import { ProblemError } from '../contract/problems.js';
import type { CreateTaskRequest, TaskView } from '../contract/schemas/task.js';
import { findIdempotent } from '../db/idempotency.js';
import { type InsertedTask, insertTask, type NewTask, readTask } from '../db/tasks.js';
import { soleFirstStep } from '../scheduling/plan-progress.js';
import { type Caller, ownerOf } from './caller.js';
import type { ServiceDeps } from './deps.js';
import { dependencyIds, newTask, queueFull, requestHash, resourcesExceeded, unknownDependencies } from './new-task.js';
import { startTask, type StartsUnderWay } from './start-task.js';
import { taskView } from './task-view.js';
import { connectionBroke } from './unavailable.js';

/** Makes the plan of a task. @throws {ProblemError} template_not_found, invalid_parameters */
export type Compile = (request: CreateTaskRequest) => Promise<Plan>;

export interface CreatedTask {
  readonly task: TaskView;
  /** false: the idempotency key was used for this request before, and this is its task */
  readonly created: boolean;
}

export type CreateTaskUseCase = (
  caller: Caller,
  request: CreateTaskRequest,
  idempotencyKey: string | null,
  lineage?: NewTask['lineage'],
) => Promise<CreatedTask>;

/** Tries to store a task when the connection breaks while nobody knows whether the commit was carried out. */
const storeTries = 3;

/**
 * Validates, compiles and stores a task, then starts its Temporal workflow. While Temporal is away the task is accepted all the same
 * and the outbox starts it.
 * @throws {ProblemError} template_not_found, invalid_parameters, invalid_dependency, idempotency_conflict, resources_exceeded, queue_full
 */
export function createTaskUseCase(deps: ServiceDeps, compile: Compile, starts: StartsUnderWay): CreateTaskUseCase {
  const { queueMax } = deps.config;
  return async (caller, request, idempotencyKey, lineage = null) => {
    const bodyHash = requestHash(lineage === null ? request : { ...request, replay_of: lineage.replayedFrom });
    if (idempotencyKey !== null) {
      const known = await earlierTask(deps, caller, idempotencyKey, bodyHash);
      if (known !== null) return { task: known, created: false };
    }
    const dependsOn = dependencyIds(request.depends_on);
    const plan = await compile(request);
    const idempotency = idempotencyKey === null ? null : { key: idempotencyKey, bodyHash };
    const task = newTask(caller, request, plan, { dependsOn, idempotency, queueMax, lineage });
    const starter = starts.hasRoom() ? 'creator' : 'outbox';
    const startedMs = performance.now();
    const stored = await store(deps, task, { owner: ownerOf(caller), starter, first: starter === 'creator' ? soleFirstStep(plan) : null });
    if (stored.outcome === 'unknown_dependencies') throw unknownDependencies(request.depends_on, stored.ids);
    if (stored.outcome === 'too_large') throw resourcesExceeded(stored.amounts);
    if (stored.outcome === 'queue_full') throw queueFull(stored.queued, queueMax);
    if (stored.outcome === 'key_taken') {
      const winner = await earlierTask(deps, caller, idempotencyKey ?? '', bodyHash);
      if (winner !== null) return { task: winner, created: false };
      throw new ProblemError('unavailable', 'Another request with this Idempotency-Key is under way; try again.');
    }
    // Where nobody waits, storing the task is the decision too.
    if (stored.first !== null) deps.meter?.observe('scheduling_latency_ms', performance.now() - startedMs);
    // The task is safe now, so nobody waits for Temporal.
    if (starter === 'creator')
      starts.add(startTask(deps, { taskId: task.id, name: task.name, attempt: 1, plan, exact: task.exact, userId: task.userId, first: stored.first }));
    return { task: taskView(stored.row), created: true };
  };
}

/** The task that an idempotency key stands for, when it was taken by the same request. @throws {ProblemError} idempotency_conflict when by another one */
export async function earlierTask({ sql }: Pick<ServiceDeps, 'sql'>, caller: Caller, key: string, bodyHash: Buffer): Promise<TaskView | null> {
  const remembered = await findIdempotent(sql, caller.userId, key);
  if (remembered === null) return null;
  if (!remembered.bodyHash.equals(bodyHash)) throw new ProblemError('idempotency_conflict', 'This Idempotency-Key was used for a request with another body.');
  const row = await readTask(sql, remembered.taskId, null);
  return row === null ? null : taskView(row);
}

/** Stores once, however often the connection breaks: the id is chosen before, so a repeat finds what was committed. */
async function store({ sql, log }: ServiceDeps, task: NewTask, options: Parameters<typeof insertTask>[2]): Promise<InsertedTask> {
  return storeAgain(
    () => insertTask(sql, task, options),
    (error) => log.warn({ err: error, task_id: task.id }, 'connection lost while storing a task; storing it again under the same id'),
  );
}

/** Repeats a call that stores under ids chosen before, when the connection broke while nobody knows whether it was carried out. */
export async function storeAgain<T>(call: () => Promise<T>, onBroken: (error: unknown) => void): Promise<T> {
  for (let tryNo = 1; ; tryNo += 1) {
    try {
      return await call();
    } catch (error) {
      if (!connectionBroke(error) || tryNo === storeTries) throw error;
      onBroken(error);
    }
  }
}
