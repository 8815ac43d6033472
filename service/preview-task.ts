import type { JsonObject } from '../contract/json.js';
import type { Plan } from '../contract/plan.js';
import { defaultLevel } from '../contract/priority.js';
import type { CreateTaskRequest } from '../contract/schemas/task.js';
import type { TaskPreviewView } from '../contract/schemas/task-preview.js';
import { readExceeded } from '../db/holds.js';
import { unknownTasks } from '../db/tasks.js';
import { type Caller, ownerOf } from './caller.js';
import type { Compile } from './create-task.js';
import type { ServiceDeps } from './deps.js';
import { modelsOf } from './models-of.js';
import { dependencyIds, resourcesExceeded, unknownDependencies } from './new-task.js';
import { plannedStepView } from './planned-step.js';

/**
 * What a request would run: checked as a task that is created, and nothing is stored or started.
 * @throws {ProblemError} template_not_found, invalid_parameters, invalid_dependency, resources_exceeded
 */
export function previewTaskUseCase({ sql }: ServiceDeps, compile: Compile) {
  return async (caller: Caller, request: CreateTaskRequest): Promise<TaskPreviewView> => {
    const dependsOn = dependencyIds(request.depends_on);
    const plan = await compile(request);
    const unknown = dependsOn.length === 0 ? [] : await unknownTasks(sql, dependsOn, ownerOf(caller));
    if (unknown.length > 0) throw unknownDependencies(request.depends_on, unknown);
    if (request.resource_requirements !== undefined) {
      const exceeded = await readExceeded(sql, request.resource_requirements as JsonObject);
      if (exceeded.length > 0) throw resourcesExceeded(exceeded);
    }
    return preview(plan, request.priority ?? defaultLevel);
  };
}

function preview(plan: Plan, priority: number): TaskPreviewView {
  return {
    template: plan.template,
    template_hash: plan.templateHash,
    priority,
    parameters: plan.parameters,
    models: modelsOf(plan.steps),
    steps: plan.steps.map(plannedStepView),
  };
}
