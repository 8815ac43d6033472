import { Context } from '@temporalio/activity';
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import type { Logger } from 'pino';
import type { z } from 'zod';
import { failureCodes, StepFailure } from '../contract/failure.js';
import type { JsonObject } from '../contract/json.js';
import type { Claim, ExecutionRef, Grant, Line, RunIds, Usage } from '../contract/line.js';
import type { PlanStep, Renderer } from '../contract/plan.js';
import { untilAvailable } from '../db/connect.js';
import type { ModelBackend } from './backends/backend.js';
import type { GitClient } from './git/git-client.js';
import type { AbortReason, RunningSteps } from './running.js';
import type { Sandbox } from './sandbox/sandbox.js';
import { createStepRecorder } from './step-recorder.js';
import { outputBytesMax, type StepDefinition, type StepLimits } from './steps/define-step.js';
import { addUsage } from './usage.js';
import type { Workspaces } from './workspace.js';

/** Argument of every step's activity. The plan, the outputs and the caller come with the claim, not through Temporal. */
export interface StepCall {
  readonly grant: Grant;
  readonly taskId: string;
  readonly step: string;
  /** the run, where its grant is older than it and was given for the task */
  readonly run?: RunIds;
}

export type StepActivity = (call: StepCall) => Promise<ExecutionRef>;

export interface StepDeps {
  readonly line: Line;
  readonly steps: readonly StepDefinition[];
  readonly renderer: Renderer;
  readonly running: RunningSteps;
  readonly workspaces: Workspaces;
  /** id of the engine whose slots these activities take; null on a host */
  readonly engine: string | null;
  readonly resultsRoot: string;
  readonly fileRoots: readonly string[];
  readonly limits: Omit<StepLimits, 'timeoutMs'>;
  /** characters of output that one try tells while it runs */
  readonly toldCharsMax: number;
  readonly models: ModelBackend;
  readonly sandbox: Sandbox;
  readonly git: GitClient;
  readonly log: Logger;
}

const beatMs = 2_000;
/** How long a finished step waits for PostgreSQL to take its result before the work is given up. */
const finishPatienceMs = 120_000;

/** One activity per step type. The author of a step writes `run`; claim, heartbeat, signal, limits and finish come from here. */
export function createStepActivities(deps: StepDeps): Record<string, StepActivity> {
  return Object.fromEntries(deps.steps.map((step) => [step.type, (call: StepCall) => performStep(deps, step, call)]));
}

async function performStep(deps: StepDeps, definition: StepDefinition, call: StepCall): Promise<ExecutionRef> {
  const context = Context.current();
  const log = deps.log.child({
    task_id: call.taskId,
    workflow_id: context.info.workflowExecution?.workflowId ?? null,
    step: call.step,
    step_type: definition.type,
  });
  const claim = await claimOrGiveUp(deps, call, context.cancellationSignal);
  log.info({ attempt: claim.attempt, step_attempt: claim.stepAttempt, try: claim.tryNo, host: call.grant.host, slot: call.grant.slot }, 'step started');

  const controller = new AbortController();
  const forget = deps.running.add({ taskId: claim.taskId, controller });
  const forward = () => controller.abort(cancelReason(context));
  if (context.cancellationSignal.aborted) forward();
  else context.cancellationSignal.addEventListener('abort', forward, { once: true });
  const deadline = setTimeout(() => controller.abort('deadline'), claim.step.startToCloseMs);
  let phase: { phase: string; done?: number; total?: number } = { phase: 'starting' };
  let moved = performance.now();
  const beat = () => context.heartbeat({ ...phase, idle_ms: Math.round(performance.now() - moved) });
  const beats = setInterval(beat, beatMs);
  let usage: Usage = {};
  const recorder = createStepRecorder({
    step: claim.step.id,
    attempt: claim.attempt,
    charsMax: deps.toldCharsMax,
    write: (events) => deps.line.note(claim, events),
    log,
  });

  try {
    const output = await work();
    const outputBytes = Buffer.byteLength(JSON.stringify(output));
    if (outputBytes > outputBytesMax) {
      throw new StepFailure(failureCodes.limitExceeded, `the output of step ${call.step} has ${outputBytes} bytes; at most ${outputBytesMax} are kept`, {
        retryable: false,
        details: { limit: 'output_bytes' },
      });
    }
    // A result that is there is kept, even when a cancel has come meanwhile: it was first.
    const told = await recorder.end();
    const execution = await untilAvailable(() => deps.line.finish(claim, output, usage, told), { patienceMs: finishPatienceMs });
    if (!execution) throw grantVoid('the slot was taken back while the step ran', true);
    log.info({ output_bytes: outputBytes, ...(execution.closed ? { task_status: 'completed' } : {}) }, 'step finished');
    // Nobody waits for it: what a failure leaves, the reconciler sweeps.
    if (execution.closed) deps.workspaces.remove(claim).catch((error: unknown) => log.error({ err: error }, 'a workspace could not be removed'));
    return execution;
  } catch (error) {
    throw await settle(error);
  } finally {
    clearTimeout(deadline);
    clearInterval(beats);
    context.cancellationSignal.removeEventListener('abort', forward);
    forget();
  }

  async function work(): Promise<JsonObject> {
    const rendered = deps.renderer.input({ ...claim.plan }, claim.step, claim.outputs);
    const parsed = definition.input.safeParse(rendered);
    if (!parsed.success) throw invalidInput(call.step, parsed.error);
    const workspace = await deps.workspaces.create(claim);
    const result = await definition.run(parsed.data, {
      signal: controller.signal,
      taskId: claim.taskId,
      attempt: claim.attempt,
      stepId: claim.step.id,
      stepAttempt: claim.stepAttempt,
      previous: claim.outputs.previous,
      workspace,
      resultsRoot: deps.resultsRoot,
      fileRoots: deps.fileRoots,
      limits: limitsOf(deps.limits, claim.step),
      models: deps.models,
      sandbox: deps.sandbox,
      git: deps.git,
      stillMine: () => untilAvailable(() => deps.line.holds(claim), { patienceMs: finishPatienceMs, signal: controller.signal }),
      output: (stream, text) => recorder.output(stream, text),
      progress(detail) {
        phase = detail;
        moved = performance.now();
        recorder.progress(detail);
      },
      record(more) {
        usage = addUsage(usage, more);
      },
    });
    return definition.output.parse(result) as JsonObject;
  }

  /** Writes how the step ended, frees its slot, and says it in Temporal's terms. */
  async function settle(error: unknown): Promise<Error> {
    if (error instanceof ApplicationFailure) return error; // GrantVoid from finish: the row is somebody else's
    const end = ending(error, controller.signal);
    if (end.unknown) log.error({ err: error }, 'step failed unexpectedly');
    else log.warn({ code: end.code, reason: end.message }, 'step did not finish');
    const told = await recorder.end();
    const mine = await untilAvailable(() => deps.line.fail(claim, end, usage, told), { patienceMs: finishPatienceMs }).catch((cause: unknown) => {
      log.error({ err: cause }, 'the end of a failed step could not be written');
      return true;
    });
    if (!mine) return grantVoid('the slot was taken back while the step ran', true);
    if (end.code === failureCodes.cancelled && context.cancellationSignal.aborted)
      return error instanceof CancelledFailure ? error : new CancelledFailure('cancelled');
    return ApplicationFailure.create({
      type: end.code,
      message: end.message,
      nonRetryable: !end.retryable,
      details: [{ claimed: !end.orderly, told: true, details: end.details ?? null }],
    });
  }
}

/** What the installation allows, or less where the task asked for less. */
function limitsOf(installation: StepDeps['limits'], { limits = {}, startToCloseMs }: PlanStep): StepLimits {
  const { outputBytes, memoryBytes, diskBytes } = limits;
  return {
    ...installation,
    outputBytes: Math.min(installation.outputBytes, outputBytes ?? installation.outputBytes),
    diskBytes: Math.min(installation.diskBytes, diskBytes ?? installation.diskBytes),
    memoryBytes: Math.min(installation.memoryBytes || Number.MAX_SAFE_INTEGER, memoryBytes ?? Number.MAX_SAFE_INTEGER) % Number.MAX_SAFE_INTEGER, // 0: unlimited
    timeoutMs: startToCloseMs,
  };
}

async function claimOrGiveUp(deps: StepDeps, call: StepCall, signal: AbortSignal): Promise<Claim> {
  let claim: Claim | null;
  try {
    claim = await untilAvailable(() => deps.line.claim(call.grant, deps.engine, call.run), { patienceMs: 10_000, signal });
  } catch (error) {
    deps.log.warn({ err: error, task_id: call.taskId }, 'a grant could not be claimed');
    throw ApplicationFailure.create({
      type: failureCodes.grantReturned,
      message: 'the grant could not be claimed',
      nonRetryable: true,
      details: [{ claimed: false }],
    });
  }
  if (!claim) throw grantVoid('the grant was void before the step began', false);
  return claim;
}

interface Ending {
  readonly code: string;
  readonly message: string;
  readonly retryable: boolean;
  readonly details?: StepFailure['details'];
  readonly unknown?: boolean;
  /** given back on purpose, by a pause, a reset or a shutdown: no sign that the step does harm */
  readonly orderly?: boolean;
}

/** Why a step ended without a result. What made us abort it counts more than the error that the abort caused. */
function ending(error: unknown, signal: AbortSignal): Ending {
  const reason = signal.aborted ? (signal.reason as AbortReason | 'deadline' | 'returned' | undefined) : undefined;
  switch (reason) {
    case 'cancelled':
      return { code: failureCodes.cancelled, message: 'the step was cancelled', retryable: false };
    case 'lease_lost':
      return { code: failureCodes.grantReturned, message: 'the process that ran the step lost its lease', retryable: false };
    case 'gives_way':
      return { code: failureCodes.grantReturned, message: 'the step gave way to tasks that waited for its task', retryable: false, orderly: true };
    case 'shutdown':
    case 'returned':
      return { code: failureCodes.grantReturned, message: 'the step gave its slot back', retryable: false, orderly: true };
    case 'deadline':
      return { code: failureCodes.limitExceeded, message: 'the step passed its time limit', retryable: false, details: { limit: 'timeout_seconds' } };
    case undefined:
  }
  if (error instanceof StepFailure) return { code: error.code, message: error.message, retryable: error.retryable, details: error.details };
  return { code: failureCodes.unexpected, message: 'the step failed unexpectedly; the log has the details under the task id', retryable: true, unknown: true };
}

/** What Temporal's cancellation of an activity asks for: a cancel by somebody, or to give the slot back (pause, reset, shutdown, time-out). */
function cancelReason(context: Context): 'cancelled' | 'returned' {
  const details = context.cancellationDetails;
  return details?.cancelRequested || details?.notFound ? 'cancelled' : 'returned';
}

function grantVoid(message: string, claimed: boolean): ApplicationFailure {
  return ApplicationFailure.create({ type: failureCodes.grantVoid, message, nonRetryable: true, details: [{ claimed, told: true }] });
}

function invalidInput(step: string, error: z.ZodError): StepFailure {
  const faults = error.issues.map((issue) => `${issue.path.join('.') || '(whole input)'}: ${issue.message}`);
  return new StepFailure(failureCodes.invalidInput, `the input of step ${step} is not valid: ${faults.join('; ')}`, { retryable: false, details: { faults } });
}
