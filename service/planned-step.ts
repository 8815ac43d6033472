import type { PlanStep } from '../contract/plan.js';
import type { PlannedStepView } from '../contract/schemas/task-preview.js';

/** A step of a plan as the API shows it. */
export function plannedStepView(step: PlanStep): PlannedStepView {
  const { retry } = step;
  return {
    id: step.id,
    type: step.type,
    title: step.title,
    pool: step.pool,
    model: step.model?.name ?? null,
    needs: [...step.needs],
    input: step.input,
    deferred: step.deferred.map(({ path, template }) => ({ path: [...path], template })),
    when: step.when ?? null,
    timeout_seconds: step.startToCloseMs / 1_000,
    retry: {
      max_attempts: retry.maximumAttempts,
      initial_interval_seconds: retry.initialIntervalMs / 1_000,
      backoff_coefficient: retry.backoffCoefficient,
      max_interval_seconds: retry.maximumIntervalMs / 1_000,
      non_retryable_errors: [...retry.nonRetryable],
    },
    on_failure: step.onFailure,
  };
}
