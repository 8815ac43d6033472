import type { JsonObject } from './json.js';
import type { ModelNeed } from './queues.js';

/** Which slots a step takes: the engines' (`general`) or those of a resident model (`model`). */
export type Pool = 'general' | 'model';

/**
 * What happens when a step fails. `retry`: try again as its policy allows, then the task fails.
 * `skip`: when the attempts are used up (one unless the step names more) go on without its output. `fail_workflow`: the task fails at once.
 */
export const onFailures = ['retry', 'skip', 'fail_workflow'] as const;
export type OnFailure = (typeof onFailures)[number];

/** How often a step is attempted. Counted by the Temporal workflow `runTask`, never by Temporal's own activity retry. */
export interface RetryPolicy {
  /** 1 to 100 */
  readonly maximumAttempts: number;
  readonly initialIntervalMs: number;
  /** at least 1 */
  readonly backoffCoefficient: number;
  readonly maximumIntervalMs: number;
  /** failure codes that end the step at once */
  readonly nonRetryable: readonly string[];
}

/** A string of a step's input that names `steps.*` or `previous`, and so is rendered after the claim. */
export interface Deferred {
  /** where it stands in the input: object keys and array indexes, outermost first */
  readonly path: readonly (string | number)[];
  /** Jinja2 source */
  readonly template: string;
}

export interface PlanStep {
  /** unique in the plan: the author's id, else the type, then `<type>_2` */
  readonly id: string;
  readonly type: string;
  /** what the Temporal Web UI and the logs show, at most 200 bytes */
  readonly title: string;
  /** ids of the steps that have to end before this one; a YAML list is a chain */
  readonly needs: readonly string[];
  readonly pool: Pool;
  /** set exactly when `pool` is `model` */
  readonly model?: ModelNeed;
  /** the rendered input, without the deferred strings */
  readonly input: JsonObject;
  readonly deferred: readonly Deferred[];
  /** Jinja2 expression; the step is skipped when it is false. Evaluated when the step enters the line. */
  readonly when?: string;
  /** one attempt's running time, from its start to its end */
  readonly startToCloseMs: number;
  /** limits that the task set below the installation's, in bytes */
  readonly limits?: { readonly outputBytes?: number; readonly memoryBytes?: number; readonly diskBytes?: number };
  readonly retry: RetryPolicy;
  readonly onFailure: OnFailure;
}

/** What a task runs, frozen when it is submitted: a DAG of steps in a topological order. The input of its Temporal workflow. */
export interface Plan {
  readonly version: 1;
  readonly template: string;
  /** SHA-256 of the template's text, hex */
  readonly templateHash: string;
  /** all declared parameters that have a value; the context of deferred strings */
  readonly parameters: JsonObject;
  readonly steps: readonly PlanStep[];
}

/** What a deferred string may name beside the parameters. */
export interface StepOutputs {
  /** output by step id; a skipped step has `{}` */
  readonly steps: Readonly<Record<string, JsonObject>>;
  /** output of the latest completed step this one needs, null when there is none */
  readonly previous: JsonObject | null;
}

/**
 * Renders what had to wait for outputs. Handed to the activities, so that they need not know the template language.
 * Both throw {@link StepFailure} `template_error`, not retryable, naming the step, the field and what is missing.
 */
export interface Renderer {
  input(plan: Plan, step: PlanStep, outputs: StepOutputs): JsonObject;
  condition(plan: Plan, step: PlanStep, outputs: StepOutputs): boolean;
}
