import type { PlanStep } from '../contract/plan.js';
import type { StepStanding } from '../contract/schemas/task-steps.js';
import { isFinal } from '../contract/status.js';
import type { StepsRow, TryRow } from '../db/steps.js';

/**
 * Where each step of the present attempt of a task stands, by id. The line has no row of a step that was skipped for its condition, so that is
 * concluded from what came after it.
 */
export function standingsOf({
  status,
  attempt,
  error,
  plan,
  tries,
}: Pick<StepsRow, 'status' | 'attempt' | 'error' | 'plan' | 'tries'>): Map<string, StepStanding> {
  const last = new Map<string, TryRow>();
  for (const each of tries) if (each.attempt === attempt && (last.get(each.step)?.tryNo ?? 0) < each.tryNo) last.set(each.step, each);
  const passed = stepsBeforeAny(plan.steps, new Set(last.keys()));
  const open = !isFinal(status);

  function standing({ id }: PlanStep): StepStanding {
    const found = last.get(id);
    if (found === undefined) return status === 'completed' || passed.has(id) ? 'skipped' : open ? 'pending' : 'not_reached';
    if (found.line === 'waiting' || found.line === 'granted') return 'waiting';
    if (found.line === 'running') return 'running';
    if (found.ended === 'completed') return 'completed';
    if (status === 'failed' && error?.step === id) return 'failed';
    if (status === 'completed' || passed.has(id)) return 'skipped';
    // Between two tries it waits on a timer of its run.
    return open ? 'waiting' : 'cancelled';
  }
  return new Map(plan.steps.map((step) => [step.id, standing(step)]));
}

/** Steps that have ended, however, since one that needs them has begun. */
function stepsBeforeAny(steps: readonly PlanStep[], begun: ReadonlySet<string>): ReadonlySet<string> {
  const needs = new Map(steps.map((step) => [step.id, step.needs]));
  const before = new Set([...begun].flatMap((id) => needs.get(id) ?? []));
  // A set hands out what is added while it is walked.
  for (const id of before) for (const need of needs.get(id) ?? []) before.add(need);
  return before;
}
