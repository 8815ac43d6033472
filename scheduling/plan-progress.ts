import type { Plan, PlanStep } from '../contract/plan.js';

/** Where a step of a running plan stands. `not_reached`: an earlier step ended the task. */
export type StepState = 'pending' | 'waiting' | 'running' | 'completed' | 'skipped' | 'failed' | 'not_reached';

/** Milliseconds to wait before the attempt after `attempt` (1-based): exponential, capped by the policy's maximum. */
export function retryDelayMs(step: PlanStep, attempt: number): number {
  const { initialIntervalMs, backoffCoefficient, maximumIntervalMs } = step.retry;
  return Math.min(maximumIntervalMs, initialIntervalMs * backoffCoefficient ** (attempt - 1));
}

/** Whether a failed attempt is followed by another one. */
export function mayRetry(step: PlanStep, attempt: number, failure: { code: string; retryable: boolean }): boolean {
  return step.onFailure !== 'fail_workflow' && failure.retryable && attempt < step.retry.maximumAttempts && !step.retry.nonRetryable.includes(failure.code);
}

/** The step that a plan surely begins with, and alone: what may stand in the line before there is a run. Null: there are several, or `when` decides whether it runs. */
export function soleFirstStep(plan: Plan): PlanStep | null {
  const [first, ...others] = plan.steps.filter((step) => step.needs.length === 0);
  return first === undefined || others.length > 0 || first.when !== undefined ? null : first;
}

/** A Markdown table of a plan's steps and their states, for the current details in the Temporal Web UI. */
export function progressTable(plan: Plan, states: ReadonlyMap<string, StepState>): string {
  const rows = plan.steps.map(
    (step, index) => `| ${index + 1} | ${step.id} | ${step.type} | ${step.model?.name ?? ''} | ${states.get(step.id) ?? 'pending'} |`,
  );
  return ['| # | step | type | model | state |', '|---|---|---|---|---|', ...rows].join('\n');
}
