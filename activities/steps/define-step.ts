import type { z } from 'zod';
import type { OutputStream } from '../../contract/event.js';
import type { Usage } from '../../contract/line.js';
import type { Pool } from '../../contract/plan.js';
import type { ModelBackend } from '../backends/backend.js';
import type { GitClient } from '../git/git-client.js';
import type { Sandbox } from '../sandbox/sandbox.js';

/** What a step's `run` gets beside its input. Everything that waits takes `signal`. */
export interface StepContext {
  /** aborts on cancel, loss of the slot, the step's time limit and shutdown */
  readonly signal: AbortSignal;
  readonly taskId: string;
  readonly attempt: number;
  readonly stepId: string;
  readonly stepAttempt: number;
  /** output of the step before, null for the first */
  readonly previous: Readonly<Record<string, unknown>> | null;
  /** directory of this task's attempt, shared by its steps, created before the first and removed at the end; absolute */
  readonly workspace: string;
  /** where `store_result` writes; absolute */
  readonly resultsRoot: string;
  /** where `read_files` may read; absolute */
  readonly fileRoots: readonly string[];
  readonly limits: StepLimits;
  readonly models: ModelBackend;
  readonly sandbox: Sandbox;
  readonly git: GitClient;
  /** whether the step still has its slot; asked right before an effect that others see, such as the rename of a file. Waits for PostgreSQL */
  stillMine(): Promise<boolean>;
  /** tells a piece of what a model or a program gives, as it comes; shown live, kept up to a bound. Never waits and never fails */
  output(stream: OutputStream, text: string): void;
  /** tells how far the step is; shown live, at most one a second is kept */
  progress(detail: { phase: string; done?: number; total?: number }): void;
  /** adds to the execution record; counts and durations of the same name add up */
  record(usage: Usage): void;
}

export interface StepLimits {
  /** bytes of output that a script or a model may give */
  readonly outputBytes: number;
  /** bytes of one file, and of all files, that `read_files` takes */
  readonly fileBytes: number;
  readonly filesBytes: number;
  readonly filesMax: number;
  /** characters of one prompt, all messages of a chat together */
  readonly promptChars: number;
  /** images of one inference, and bytes of each */
  readonly imagesMax: number;
  readonly imageBytes: number;
  /** texts that one step may embed */
  readonly embedInputs: number;
  /** bytes of one file that a script may write */
  readonly diskBytes: number;
  /** bytes of address space of a script's processes; 0: unlimited */
  readonly memoryBytes: number;
  /** time that this attempt of the step may still take */
  readonly timeoutMs: number;
}

/** A step's output is kept in PostgreSQL up to this; bytes of JSON. Larger results belong into a file. */
export const outputBytesMax = 2 * 1024 * 1024;

export interface StepPolicy {
  /** a `model` step has an input field `model` and runs on the model's queue */
  readonly pool: Pool;
  readonly startToCloseMs: number;
  /** attempts unless the template or the task names its own; 1 to 100 */
  readonly attempts: number;
  /** failure codes that are never retried, beside those the step marks itself */
  readonly nonRetryable?: readonly string[];
}

/** All there is to know about one step type. */
export interface StepDefinition<Input extends z.ZodObject = z.ZodObject, Output extends z.ZodObject = z.ZodObject> {
  readonly type: string;
  /** one sentence for docs and forms */
  readonly summary: string;
  readonly input: Input;
  readonly output: Output;
  readonly policy: StepPolicy;
  /** a step as an author writes it in a template, one YAML list item */
  readonly example: string;
  /** @throws {StepFailure} for a failure with a name; anything else is `unexpected` and retried */
  run(input: z.output<Input>, context: StepContext): Promise<z.input<Output>>;
}

/** Declares a step type; register it with one line in `activities/steps/index.ts`. */
export function defineStep<Input extends z.ZodObject, Output extends z.ZodObject>(step: StepDefinition<Input, Output>): StepDefinition<Input, Output> {
  return step;
}
