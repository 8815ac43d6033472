import {
  ActivityCancellationType,
  ActivityFailure,
  ApplicationFailure,
  CancellationScope,
  CancelledFailure,
  condition,
  isCancellation,
  proxyActivities,
  proxyLocalActivities,
  rootCause,
  setCurrentDetails,
  setHandler,
  sleep,
  TimeoutFailure,
  workflowInfo,
} from '@temporalio/workflow';
import { TimeoutType } from '@temporalio/common';
import type { LineActivities } from '../activities/line-activities.js';
import type { StepActivity, StepCall } from '../activities/step-activities.js';
import { type FailureInfo, failureCodes } from '../contract/failure.js';
import type { ExecutionRef, Grant, Refusal, RunIdentity, RunIds, TaskEnd } from '../contract/line.js';
import type { PlanStep } from '../contract/plan.js';
import { temporalPriorityKey } from '../contract/priority.js';
import { mayRetry, progressTable, retryDelayMs, type StepState } from '../scheduling/plan-progress.js';
import { grantSignal, lostSignal, prioritySignal, progressQuery, refusedSignal, type TaskStart } from './run-task.messages.js';

/** Tries of one step that may end after their claim without a result (worker killed, host lost) before the step counts as poison. */
const lostClaimsMax = 3;
/** A process that says itself that its slot was taken back lives on; it has lost its lease, as when the database was away. So many of these count as one that was lost. */
const toldLossesInOne = 4;

const line = proxyLocalActivities<LineActivities>({
  // A hung connection: each move is one short transaction, so a longer call is cut and repeated.
  startToCloseTimeout: '10 seconds',
  // PostgreSQL away: every move may be repeated, and a task is never given up for it. Broken requests are marked non-retryable.
  retry: { initialInterval: '100 milliseconds', backoffCoefficient: 2, maximumInterval: '10 seconds' },
});

/** How an attempt at a step ended without a result. */
interface StepFailed {
  readonly code: string;
  readonly message: string;
  readonly retryable: boolean;
  readonly details?: FailureInfo['details'];
}

type TryEnd =
  | { readonly kind: 'done'; readonly execution: ExecutionRef | null }
  /** `harm`: how much it says for the step doing harm, from 0 to 1 for a process that was lost with it */
  | { readonly kind: 'lost'; readonly harm: number }
  | ({ readonly kind: 'failed' } & StepFailed);

/** Ends a run that has no effect, since its attempt is over. */
class Stale extends Error {}

/** Ends the plan: a step failed for good. */
class PlanFailed extends Error {
  readonly info: FailureInfo;
  constructor(info: FailureInfo) {
    super(info.message);
    this.info = info;
  }
}

/**
 * One task, from its first step to its end. Decides nothing about order: each step enters the line, waits for its grant, and runs once
 * in the slot it was given. Everything it knows of the outside comes from local activities and signals.
 * @throws ApplicationFailure with the failure's code when the task failed, so that the run shows as failed; CancelledFailure when it was cancelled
 */
export async function runTask(task: TaskStart): Promise<{ status: TaskEnd['status'] | 'stale' }> {
  const info = workflowInfo();
  const run: RunIdentity = { taskId: task.taskId, attempt: task.attempt, runId: info.runId, firstRunId: info.firstExecutionRunId };
  const inbox = openInbox(task);
  const states = new Map<string, StepState>(task.plan.steps.map((step) => [step.id, 'pending']));
  const show = (id: string, state: StepState) => {
    states.set(id, state);
    setCurrentDetails(progressTable(task.plan, states));
  };
  setHandler(progressQuery, () => ({
    attempt: task.attempt,
    steps: task.plan.steps.map((step) => ({ id: step.id, type: step.type, state: states.get(step.id) ?? 'pending' })),
  }));

  let closed: boolean;
  try {
    closed = await runPlan(task, run, inbox, show);
  } catch (error) {
    if (error instanceof Stale) return { status: 'stale' };
    for (const [id, state] of states) if (state === 'pending') show(id, 'not_reached');
    const end = endOf(error, task);
    await CancellationScope.nonCancellable(() => line.close(run, end));
    if (end.status === 'cancelled') throw error;
    throw ApplicationFailure.nonRetryable(end.error?.message ?? 'the task failed', end.error?.code ?? failureCodes.unexpected);
  }
  if (closed) return { status: 'completed' };
  const end: TaskEnd = { status: 'completed', error: null };
  const current = await CancellationScope.nonCancellable(() => line.close(run, end));
  return { status: current ? 'completed' : 'stale' };
}

/**
 * Runs every step as soon as those it needs have ended; the first failure cancels the others and waits for them.
 * @returns whether the last step has completed the task with its own end
 */
async function runPlan(task: TaskStart, run: RunIdentity, inbox: Inbox, show: (id: string, state: StepState) => void): Promise<boolean> {
  const scope = new CancellationScope();
  const ends = new Map<string, Promise<ExecutionRef | null>>();
  return scope.run(async () => {
    for (const [index, step] of task.plan.steps.entries()) {
      const title = `step ${index + 1}/${task.plan.steps.length}`;
      const needed = step.needs.flatMap((id) => ends.get(id) ?? []);
      const end = Promise.all(needed).then(() => runStep(task, run, step, title, inbox, (state) => show(step.id, state)));
      ends.set(step.id, end);
    }
    const results = [...ends.values()];
    let first: { error: unknown } | undefined;
    const watched = results.map((end) =>
      end.catch((error: unknown) => {
        first ??= { error };
        scope.cancel();
        return null;
      }),
    );
    const executions = await Promise.all(watched);
    if (first) throw first.error;
    return executions.some((execution) => execution?.closed ?? false);
  });
}

/** @returns its committed result; null when it was skipped. @throws {PlanFailed} {@link Stale} CancelledFailure */
async function runStep(
  task: TaskStart,
  run: RunIdentity,
  step: PlanStep,
  title: string,
  inbox: Inbox,
  show: (state: StepState) => void,
): Promise<ExecutionRef | null> {
  let stepAttempt = 1;
  let harm = 0;
  let losses = 0;
  for (;;) {
    const end = await tryStep(task, run, step, stepAttempt, title, inbox, show, (less) => {
      harm -= less;
    });
    if (end.kind === 'done') {
      show(end.execution ? 'completed' : 'skipped');
      return end.execution;
    }
    if (end.kind === 'lost') {
      harm += end.harm;
      losses += end.harm > 0 ? 1 : 0;
      if (harm <= lostClaimsMax) continue;
    }
    const failure: StepFailed =
      end.kind === 'failed' ? end : { code: failureCodes.poison, message: `the process that ran this step was lost ${losses} times`, retryable: false };
    if (mayRetry(step, stepAttempt, failure)) {
      show('waiting');
      await sleep(retryDelayMs(step, stepAttempt));
      stepAttempt += 1;
      continue;
    }
    if (step.onFailure === 'skip') {
      show('skipped');
      return null;
    }
    show('failed');
    const { code, message, details } = failure;
    throw new PlanFailed({ code, message, step: step.id, attempt: stepAttempt, ...(details === undefined ? {} : { details }) });
  }
}

/** One try: enter the line, wait for the grant, run the activity. On every other end than a result the line is left. */
async function tryStep(
  task: TaskStart,
  run: RunIdentity,
  step: PlanStep,
  stepAttempt: number,
  title: string,
  inbox: Inbox,
  show: (state: StepState) => void,
  /** called when a try that was given up as lost says itself, later, that it did less harm */
  forgive: (harm: number) => void,
): Promise<TryEnd> {
  let cause = 'left';
  let settled = false;
  const first = inbox.takeFirst(step.id);
  try {
    if (first) return await performed(first, { runId: run.runId, firstRunId: run.firstRunId });
    const entered = await line.enter({ run, step, stepAttempt });
    switch (entered.state) {
      case 'stale':
        settled = true;
        throw new Stale();
      case 'done':
        settled = true;
        return { kind: 'done', execution: entered.execution };
      case 'skipped':
        settled = true;
        return { kind: 'done', execution: null };
      case 'granted':
        inbox.accept(entered.grant);
        break;
      case 'waiting':
        show('waiting');
    }
    const answer = await inbox.answerFor(entered.row);
    if ('code' in answer) {
      settled = true; // the refusal voided the row
      return { kind: 'failed', code: answer.code, message: answer.message, retryable: answer.retryable };
    }
    return await performed(answer);
  } catch (error) {
    if (error instanceof Stale) throw error;
    if (isCancellation(error)) {
      cause = 'cancelled';
      throw error;
    }
    const end = classify(error);
    cause = end.kind === 'failed' ? end.code : 'lost';
    // A cancel aborts the step at once and reaches this workflow a moment later; until then there is nothing to decide.
    if (cause === failureCodes.cancelled) await sleep('10 seconds');
    return end;
  } finally {
    const left = cause;
    if (!settled) await CancellationScope.nonCancellable(() => line.leave(run, step.id, left));
  }

  async function performed(grant: Grant, ofRun?: RunIds): Promise<TryEnd> {
    show('running');
    const { [step.type]: perform } = proxyActivities<Record<string, StepActivity>>({
      taskQueue: grant.queue,
      // Catches a worker that took the activity and hangs past the step's own deadline, which comes first.
      startToCloseTimeout: step.startToCloseMs + 15_000,
      // Catches a queue that nobody serves: the line takes an unclaimed grant back after the same time.
      scheduleToStartTimeout: '15 seconds',
      // Catches a killed worker; the wrapper beats every 2 s.
      heartbeatTimeout: '20 seconds',
      retry: { maximumAttempts: 1 }, // a grant is used once; this workflow retries
      cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED, // the slot is free only when the work has stopped
      summary: `${title}, attempt ${stepAttempt}`,
      priority: { priorityKey: temporalPriorityKey(inbox.exact(), task.priorityLevels) },
      allowEagerDispatch: false, // an eager activity would pass by the queue's priority
    });
    if (!perform) throw ApplicationFailure.nonRetryable(`no activity for step type ${step.type}`);
    const call: StepCall = { grant, taskId: task.taskId, step: step.id, ...(ofRun === undefined ? {} : { run: ofRun }) };
    const execution = await (task.hearsLost ? unlessLost(grant, inbox, () => perform(call), forgive) : perform(call));
    if (execution === 'lost') return { kind: 'lost', harm: 1 };
    if ('grantId' in execution) return performed(execution, ofRun);
    settled = true;
    return { kind: 'done', execution };
  }
}

/**
 * Waits for an activity, but no longer than its grant counts: Temporal misses a killed process only after its heartbeat, and until then whatever the
 * line has given the step anew would stay unanswered. The activity that is given up is cancelled, and of what it still says only the harm is heard.
 * @returns its result; `lost` when its row went with whoever ran it; the grant that its row has now, when it was given anew before anybody claimed it
 */
async function unlessLost(
  grant: Grant,
  inbox: Inbox,
  perform: () => Promise<ExecutionRef>,
  forgive: (harm: number) => void,
): Promise<ExecutionRef | Grant | 'lost'> {
  const work = new CancellationScope();
  let end: { execution: ExecutionRef } | { error: unknown } | undefined;
  let given = false;
  work.run(perform).then(
    (execution) => {
      end = { execution };
    },
    (error: unknown) => {
      end = { error };
      if (!given || !(error instanceof ActivityFailure && error.cause instanceof ApplicationFailure)) return;
      // It lives, and has lost its lease only.
      const told = classify(error);
      if (told.kind === 'lost') forgive(1 - told.harm);
    },
  );
  // A cancel of the run reaches the activity, and the slot is free only when that has stopped.
  await CancellationScope.nonCancellable(() => condition(() => end !== undefined || inbox.lossOf(grant) !== undefined));
  if (end !== undefined) {
    if ('error' in end) throw end.error;
    return end.execution;
  }
  const loss = inbox.lossOf(grant) ?? 'lost';
  given = loss === 'lost';
  work.cancel();
  return loss;
}

/** What a failed activity means: the step failed, or its grant was lost and it enters the line again. */
function classify(error: unknown): TryEnd {
  const cause = error instanceof ActivityFailure ? error.cause : error;
  if (cause instanceof TimeoutFailure) {
    if (cause.timeoutType === TimeoutType.START_TO_CLOSE)
      return { kind: 'failed', code: failureCodes.timeout, message: 'the step passed its time limit', retryable: true };
    return { kind: 'lost', harm: cause.timeoutType === TimeoutType.SCHEDULE_TO_START ? 0 : 1 };
  }
  if (cause instanceof ApplicationFailure) {
    if (cause.type === failureCodes.grantVoid || cause.type === failureCodes.grantReturned) {
      const { claimed = true, told = false } = (cause.details?.[0] ?? {}) as { claimed?: boolean; told?: boolean };
      return { kind: 'lost', harm: claimed ? (told ? 1 / toldLossesInOne : 1) : 0 };
    }
    const details = (cause.details?.[0] as { details?: StepFailed['details'] } | undefined)?.details;
    return {
      kind: 'failed',
      code: cause.type ?? failureCodes.unexpected,
      message: cause.message,
      retryable: !cause.nonRetryable,
      ...(details === undefined || details === null ? {} : { details }),
    };
  }
  throw error;
}

function endOf(error: unknown, task: TaskStart): TaskEnd {
  if (error instanceof PlanFailed) return { status: 'failed', error: error.info };
  if (error instanceof CancelledFailure || isCancellation(error)) return { status: 'cancelled', error: null };
  return { status: 'failed', error: { code: failureCodes.unexpected, message: rootCause(error) ?? 'the task failed', step: null, attempt: task.attempt } };
}

const isGrant = (answer: Grant | Refusal): answer is Grant => 'grantId' in answer;

/** Of two grants of one row. A clock that was set back makes a later one look earlier; then the time-outs of the activity find out. */
const isEarlier = (one: Grant, other: Grant): boolean =>
  one.grantedAtMs !== undefined && other.grantedAtMs !== undefined && one.grantedAtMs < other.grantedAtMs;

interface Inbox {
  /** the latest exact priority */
  exact(): number;
  accept(grant: Grant): void;
  /** the grant that the task came with, once, for the step that it is for */
  takeFirst(step: string): Grant | undefined;
  /** why a grant counts no more: its row was lost with whoever ran it, or was given anew; undefined: it counts */
  lossOf(grant: Grant): 'lost' | Grant | undefined;
  /** the latest grant, or the refusal, of a row */
  answerFor(row: string): Promise<Grant | Refusal>;
}

/** Collects signals from the first moment on; a grant of a row that nobody waits on is never looked at. */
function openInbox(task: TaskStart): Inbox {
  const answers = new Map<string, Grant | Refusal>();
  let exact = task.exact;
  let first = task.first;
  const lost = new Set<string>();
  setHandler(lostSignal, (row) => void lost.add(row));
  setHandler(grantSignal, (grant) => {
    // Signals may come in another order than the grants were given in.
    const known = answers.get(grant.row);
    if (known === undefined || !isGrant(known) || !isEarlier(grant, known)) answers.set(grant.row, grant);
  });
  setHandler(refusedSignal, (refusal) => void answers.set(refusal.row, refusal));
  setHandler(prioritySignal, (changed) => {
    exact = changed;
  });
  return {
    exact: () => exact,
    accept: (grant) => void answers.set(grant.row, grant),
    takeFirst(step) {
      if (first?.step !== step) return undefined;
      const { grant } = first;
      first = undefined;
      return grant;
    },
    lossOf(grant) {
      if (lost.has(grant.row)) return 'lost';
      const latest = answers.get(grant.row);
      return latest !== undefined && isGrant(latest) && latest.grantId !== grant.grantId && !isEarlier(latest, grant) ? latest : undefined;
    },
    async answerFor(row) {
      await condition(() => answers.has(row));
      const answer = answers.get(row);
      if (!answer) throw ApplicationFailure.nonRetryable(`no answer for row ${row}`);
      return answer;
    },
  };
}
