import type { JsonObject } from '../contract/json.js';
import type { Plan } from '../contract/plan.js';
import { defaultLevel } from '../contract/priority.js';
import type { CreateTaskRequest } from '../contract/schemas/task.js';
import type { TaskPreviewView } from '../contract/schemas/task-preview.js';
import { readExceeded } from '../db/holds.js';
import { unknownTasks } from '../db/tasks.js';
import type { Interval } from '../scheduling/spread.js';
import { type Caller, ownerOf } from './caller.js';
import type { Compile } from './create-task.js';
import type { ServiceDeps } from './deps.js';
import { type PlanEstimate, planEstimator } from './estimate-plan.js';
import { modelsOf } from './models-of.js';
import { dependencyIds, resourcesExceeded, unknownDependencies } from './new-task.js';
import { plannedStepView } from './planned-step.js';

/**
 * What a request would run, and when, and for how long: checked as a task that is created, and nothing is stored or started.
 * @throws {ProblemError} template_not_found, invalid_parameters, invalid_dependency, resources_exceeded
 */
export function previewTaskUseCase({ sql }: ServiceDeps, compile: Compile) {
  const estimate = planEstimator(sql);
  return async (caller: Caller, request: CreateTaskRequest): Promise<TaskPreviewView> => {
    const dependsOn = dependencyIds(request.depends_on);
    const plan = await compile(request);
    const unknown = dependsOn.length === 0 ? [] : await unknownTasks(sql, dependsOn, ownerOf(caller));
    if (unknown.length > 0) throw unknownDependencies(request.depends_on, unknown);
    if (request.resource_requirements !== undefined) {
      const exceeded = await readExceeded(sql, request.resource_requirements as JsonObject);
      if (exceeded.length > 0) throw resourcesExceeded(exceeded);
    }
    const level = request.priority ?? defaultLevel;
    const madeAtMs = Date.now();
    const requirements = request.resource_requirements as JsonObject | undefined;
    const locks = request.resource_requirements?.locks ?? [];
    return preview(plan, level, await estimate({ plan, level, dependsOn, locks, requirements }), madeAtMs);
  };
}

function preview(plan: Plan, priority: number, { steps, duration, first, start, end }: PlanEstimate, madeAtMs: number): TaskPreviewView {
  const at = (ms: number) => new Date(madeAtMs + Math.max(0, ms)).toISOString();
  const between = (interval: Interval | null): [string, string] | null => (interval === null ? null : [at(interval.lowMs), at(interval.highMs)]);
  return {
    template: plan.template,
    template_hash: plan.templateHash,
    priority,
    parameters: plan.parameters,
    models: modelsOf(plan.steps),
    ...durationView(duration),
    queue_position: first.position,
    estimated_start_time: start === null ? null : at(start.middleMs),
    estimated_start_interval: between(start),
    estimated_completion_time: end === null ? null : at(end.middleMs),
    estimated_completion_interval: between(end),
    waits_for: first.why,
    steps: plan.steps.map((step) => ({ ...plannedStepView(step), ...durationView(steps.get(step.id) ?? null) })),
  };
}

function durationView(duration: Interval | null): Pick<TaskPreviewView, 'estimated_duration_seconds' | 'estimated_duration_interval'> {
  const inSeconds = (ms: number) => Math.round(ms) / 1_000;
  return {
    estimated_duration_seconds: duration === null ? null : inSeconds(duration.middleMs),
    estimated_duration_interval: duration === null ? null : [inSeconds(duration.lowMs), inSeconds(duration.highMs)],
  };
}
