import type { PlanStep } from '../contract/plan.js';
import type { TaskModelView } from '../contract/schemas/task.js';

/** The models that steps need, each once, in the order of their first use. */
export function modelsOf(steps: readonly Pick<PlanStep, 'model'>[]): TaskModelView[] {
  const models = new Map<string, TaskModelView>();
  for (const { model } of steps) {
    if (model === undefined) continue;
    const view = { name: model.name, alias: model.alias ?? null, digest: model.digest ?? null };
    const key = JSON.stringify(view);
    if (!models.has(key)) models.set(key, view);
  }
  return [...models.values()];
}
