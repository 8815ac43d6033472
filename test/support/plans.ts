import type { Plan, PlanStep } from '../../contract/plan.js';

/** A step of a plan with the fields that a test does not care about filled in: general, three attempts without a pause. */
export function planStep(id: string, fields: Partial<PlanStep> = {}): PlanStep {
  return {
    id,
    type: 'test_step',
    title: `test ${id}`,
    needs: [],
    pool: 'general',
    input: {},
    deferred: [],
    startToCloseMs: 30_000,
    retry: { maximumAttempts: 3, initialIntervalMs: 1, backoffCoefficient: 1, maximumIntervalMs: 1, nonRetryable: [] },
    onFailure: 'retry',
    ...fields,
  };
}

export function planOf(...steps: PlanStep[]): Plan {
  return { version: 1, template: 'test', templateHash: '0'.repeat(64), parameters: {}, steps };
}

/** The steps one after another, as a YAML list makes them. */
export function chain(...steps: PlanStep[]): Plan {
  return planOf(...steps.map((step, index) => ({ ...step, needs: index === 0 ? [] : [steps[index - 1]?.id ?? ''] })));
}
