import type { StepEvent } from './event.js';
import type { FailureInfo } from './failure.js';
import type { Needs } from './holds.js';
import type { JsonObject, JsonValue } from './json.js';
import type { Plan, PlanStep, Pool, StepOutputs } from './plan.js';
import type { ResidencyKey } from './queues.js';
import type { FinalStatus } from './status.js';

/** A run of a task's Temporal workflow. `firstRunId` differs from `runId` when the run was reset outside. */
export interface RunIdentity {
  readonly taskId: string;
  readonly attempt: number;
  readonly runId: string;
  readonly firstRunId: string;
}

/** A run of a task that is known otherwise. */
export type RunIds = Pick<RunIdentity, 'runId' | 'firstRunId'>;

/** The right to run one try of one step once, in one slot. */
export interface Grant {
  /** id of the line's row */
  readonly row: string;
  readonly grantId: string;
  /** when it was given, in milliseconds of PostgreSQL's clock: of two for one row the later one counts; absent in those of runs that began before it was told */
  readonly grantedAtMs?: number;
  /** Temporal task queue of the activity */
  readonly queue: string;
  readonly pool: Pool;
  readonly host: string;
  readonly hostEpoch: number;
  readonly slot: number;
}

/** The grant of a task's first step, given by the transaction that stored the task: its run needs not enter the line for it. */
export interface FirstGrant {
  /** id of the step */
  readonly step: string;
  readonly grant: Grant;
}

/** A waiting row that cannot be served: its model is missing for good, does not fit, could not be pulled. Payload of the `refused` signal. */
export interface Refusal {
  readonly row: string;
  readonly code: string;
  readonly message: string;
  readonly retryable: boolean;
}

export interface EnterRequest {
  readonly run: RunIdentity;
  readonly step: PlanStep;
  /** 1 for the first attempt of the step; tries inside an attempt are counted by the rows */
  readonly stepAttempt: number;
}

/** What a step finds when it enters the line. */
export type Entered =
  /** the attempt is over or no longer current: the run ends without effect */
  | { readonly state: 'stale' }
  /** this run has already a committed result for the step */
  | { readonly state: 'done'; readonly execution: ExecutionRef }
  /** `when` was false */
  | { readonly state: 'skipped' }
  | { readonly state: 'waiting'; readonly row: string; readonly tryNo: number; readonly exact: number }
  | { readonly state: 'granted'; readonly row: string; readonly tryNo: number; readonly exact: number; readonly grant: Grant };

/** A committed result by reference; the output itself stays in PostgreSQL. */
export interface ExecutionRef {
  readonly executionId: string;
  readonly outputBytes: number;
  /** the task was completed by the same transaction, since this was its last step */
  readonly closed?: boolean;
}

/** What a claimed activity works with. */
export interface Claim {
  readonly row: string;
  readonly token: string;
  readonly taskId: string;
  readonly attempt: number;
  readonly stepAttempt: number;
  readonly tryNo: number;
  readonly runId: string;
  readonly plan: Plan;
  readonly step: PlanStep;
  readonly outputs: StepOutputs;
  readonly userId: string;
}

/** What a step used, as its execution record keeps it. */
export interface Usage {
  /** model name, null for a step without one */
  readonly modelName?: string;
  readonly modelDigest?: string;
  readonly inferenceTimeSeconds?: number;
  readonly memoryUsedGb?: number;
  readonly cpuSeconds?: number;
  readonly exitCode?: number;
  readonly logs?: string;
  /** counts and durations of each inference, and what the step adds */
  readonly metrics?: JsonObject;
}

export interface TaskEnd {
  readonly status: FinalStatus;
  readonly error: FailureInfo | null;
}

/**
 * The moves of the line that a task's run makes. Each is one transaction of PostgreSQL and may be repeated:
 * a repeat finds what the first one did. The moves of the engine (grant, expire, host lost, close) are in db/ too.
 */
export interface Line {
  /** Inserts the step's row, or returns it as it is; grants at once when nobody is passed over. `skipped` never comes from here. */
  enter(request: EnterRequest): Promise<Entered>;
  /** What `when` is rendered with: the plan, and the outputs of the completed steps of this attempt. Null: no such task. */
  context(run: RunIdentity, step: PlanStep): Promise<{ readonly plan: Plan; readonly outputs: StepOutputs } | null>;
  /** granted -> running. `engine` is the id of the engine for a grant on `general`, `run` the run that a {@link FirstGrant} came to. Null: the grant is void. */
  claim(grant: Grant, engine: string | null, run?: RunIds): Promise<Claim | null>;
  /** Whether the row still runs under this claim; false: what it makes has to be discarded. Reads. */
  holds(claim: Claim): Promise<boolean>;
  /** Writes what a running step tells. False: the row no longer runs under this claim, and nothing was written. Not to be repeated. */
  note(claim: Claim, events: readonly StepEvent[]): Promise<boolean>;
  /** running -> done, with the execution record and what was told last; the last step of a plan completes its task too. Null: the grant is void and the output discarded. */
  finish(claim: Claim, output: JsonObject, usage: Usage, events?: readonly StepEvent[]): Promise<ExecutionRef | null>;
  /** running -> void, with the execution record and what was told last. False: the grant was void already. */
  fail(claim: Claim, failure: { code: string; message: string; details?: JsonValue }, usage: Usage, events?: readonly StepEvent[]): Promise<boolean>;
  /** live rows of this run and step -> void(cause). */
  leave(run: RunIdentity, stepId: string, cause: string): Promise<void>;
  /** Writes the task's end, frees its holds, voids its live rows, wakes its dependents. False: the run is stale. */
  close(run: RunIdentity, end: TaskEnd): Promise<boolean>;
}

/** One waiting row that may be granted now, as the policy sees it. */
export interface Head {
  readonly row: string;
  readonly taskId: string;
  readonly pool: Pool;
  readonly key: ResidencyKey | null;
  readonly level: number;
  readonly exact: number;
  /** order of arrival among the heads of this snapshot, from 1 */
  readonly place: number;
  readonly waitedMs: number;
  /** the step before it in its plan ran on the same key, so that both are to share one residency */
  readonly continues: boolean;
  /** what its task has to be given together with this grant; null or left out: nothing, or it has it */
  readonly needs?: Needs | null;
}
