import { checkAnswer } from '../../activities/steps/check-answer.js';
import type { StepDefinition } from '../../activities/steps/define-step.js';
import { failureCodes, StepFailure } from '../../contract/failure.js';
import type { JsonObject, JsonValue } from '../../contract/json.js';
import type { Plan, PlanStep, Renderer } from '../../contract/plan.js';
import { pathText, type YamlPath } from '../fault.js';
import { check } from '../issues.js';
import { createRenderer } from '../render.js';
import { lostKeys } from './compare.js';
import type { FakedStep } from './test-file.js';

/** What became of one step. */
export interface StepEnd {
  readonly state: 'completed' | 'skipped' | 'failed' | 'not_reached';
  /** 0 when its condition was false or it was not reached */
  readonly attempts: number;
  /** as it was rendered last; null when it was not */
  readonly input: JsonObject | null;
}

/** A fault of the test itself: a step that runs without a fake, or a fake that its step could not give. */
export interface FakeFault {
  readonly step: string;
  /** below the fake of the step */
  readonly path: YamlPath;
  readonly text: string;
}

export interface Walked {
  readonly ends: ReadonlyMap<string, StepEnd>;
  readonly status: 'completed' | 'failed';
  readonly error: { readonly code: string; readonly step: string; readonly message: string } | null;
  /** as `line_close` builds it; null when the task failed */
  readonly result: JsonObject | null;
  readonly faults: readonly FakeFault[];
}

/**
 * Walks a plan as `workflows/run-task.ts` does, with faked steps: conditions, attempts, skips, and inputs rendered by the real renderer. No waits.
 * Ends early at a fault of the test, since what would follow says nothing.
 */
export function walkPlan(plan: Plan, definitions: ReadonlyMap<string, StepDefinition>, fakes: Readonly<Record<string, FakedStep>>): Walked {
  const renderer = createRenderer();
  const outputs = new Map<string, JsonObject>();
  const ends = new Map<string, StepEnd>(plan.steps.map(({ id }) => [id, { state: 'not_reached', attempts: 0, input: null }]));
  for (const step of plan.steps) {
    const fake = fakes[step.id];
    const definition = definitions.get(step.type);
    if (definition === undefined) throw new Error(`no step type ${step.type}`); // the compiler made the plan from these
    const end = walkStep(plan, step, definition, fake, renderer, outputs);
    if ('fault' in end) return { ends, status: 'failed', error: null, result: null, faults: [{ step: step.id, ...end.fault }] };
    ends.set(step.id, end);
    if (end.output) outputs.set(step.id, end.output);
    if (end.failure) {
      const { code, message } = end.failure;
      return { ends, status: 'failed', error: { code, message, step: step.id }, result: null, faults: [] };
    }
  }
  const all = Object.fromEntries(plan.steps.map(({ id }) => [id, outputs.get(id) ?? {}]));
  return { ends, status: 'completed', error: null, result: { ...all[plan.steps.at(-1)?.id ?? ''], steps: all }, faults: [] };
}

type Ended = StepEnd & { readonly output?: JsonObject; readonly failure?: StepFailure };
type Fault = { readonly fault: Omit<FakeFault, 'step'> };

function walkStep(
  plan: Plan,
  step: PlanStep,
  definition: StepDefinition,
  fake: FakedStep | undefined,
  renderer: Renderer,
  outputs: ReadonlyMap<string, JsonObject>,
): Ended | Fault {
  const before = plan.steps.slice(0, plan.steps.indexOf(step));
  const seen = {
    steps: Object.fromEntries(before.map(({ id }) => [id, outputs.get(id) ?? {}])),
    previous: [...outputs.values()].at(-1) ?? null,
  };
  let input: JsonObject | null = null;
  for (let attempt = 1; ; attempt++) {
    let failure: StepFailure;
    try {
      if (!renderer.condition(plan, step, seen)) return { state: 'skipped', attempts: 0, input: null };
      input = renderer.input(plan, step, seen);
      const [issue] = check(definition.input, input);
      if (issue) throw new StepFailure(failureCodes.invalidInput, `step "${step.id}", field "${pathText(issue.path)}": ${issue.text}`, { retryable: false });
      if (fake === undefined) return { fault: { path: [], text: 'it runs, and the case says neither its output nor its failure' } };
      const { fail, output } = fake;
      if (fail === undefined || attempt > (fail.times ?? Infinity)) {
        const faulty = outputFault(definition, input, output ?? {});
        return faulty ? { fault: faulty } : { state: 'completed', attempts: attempt, input, output: output ?? {} };
      }
      failure = new StepFailure(fail.code, fail.message, { retryable: fail.retryable });
    } catch (error) {
      if (!(error instanceof StepFailure)) throw error;
      failure = error;
    }
    if (mayRetry(step, attempt, failure)) continue;
    if (step.onFailure === 'skip') return { state: 'skipped', attempts: attempt, input };
    return { state: 'failed', attempts: attempt, input, failure };
  }
}

/** As in scheduling/plan-progress.ts, which this room may not see; a test holds the two together. */
export function mayRetry(step: PlanStep, attempt: number, failure: { code: string; retryable: boolean }): boolean {
  return step.onFailure !== 'fail_workflow' && failure.retryable && attempt < step.retry.maximumAttempts && !step.retry.nonRetryable.includes(failure.code);
}

/** Why a step of this type could not have given an output; undefined when it could. */
function outputFault({ type, output: schema }: StepDefinition, input: JsonObject, output: JsonObject): Fault['fault'] | undefined {
  const [issue] = check(schema, output);
  if (issue) return { path: ['output', ...issue.path], text: `${pathText(['output', ...issue.path])}: ${type} could not give this: ${issue.text}` };
  const [lost] = lostKeys(output, schema.parse(output) as JsonObject);
  if (lost) return { path: ['output', ...lost], text: `${pathText(['output', ...lost])}: ${type} gives no such field` };
  const format = input['format'] as JsonValue | undefined;
  if (!Object.hasOwn(schema.shape, 'json') || format === undefined) return undefined;
  if (output['json'] === undefined) return { path: ['output'], text: `output.json: is missing; the step has a format, so ${type} gives the parsed answer too` };
  const answer = checkAnswer(JSON.stringify(output['json']), format as 'json' | JsonObject, false);
  return 'faults' in answer
    ? { path: ['output', 'json'], text: `output.json: does not keep to the format of the step: ${answer.faults.slice(0, 3).join('; ')}` }
    : undefined;
}
