import { failureCodes } from '../contract/failure.js';
import type { JsonObject } from '../contract/json.js';
import type { Claim, Entered, Grant, Line } from '../contract/line.js';
import type { Plan, PlanStep, Pool, StepOutputs } from '../contract/plan.js';
import { generalQueue, modelQueue, residencyKey } from '../contract/queues.js';
import { answered, type Sql } from './connect.js';
import { storedJson, storedText } from './stored-json.js';

/**
 * The moves that a task's run makes; each is one function of PostgreSQL (db/migrations/00002_line.sql), so one transaction and one round trip.
 * @throws {DatabaseUnavailable} from every move; the call may be repeated
 */
export function createLine(sql: Sql): Line {
  return {
    async enter({ run, step, stepAttempt }) {
      const key = step.model ? residencyKey(step.model) : null;
      const [row] = await answered(sql<{ entered: EnteredRow }[]>`
        select line_enter(${run.taskId}, ${run.attempt}, ${run.runId}, ${run.firstRunId}, ${step.id}, ${stepAttempt}, ${step.pool}, ${key}) as entered`);
      return enteredOf(only(row).entered);
    },

    async context(run, step) {
      const [row] = await answered(sql<{ plan: Plan; outputs: StepOutput[] }[]>`
        select plan, line_outputs(id, ${run.attempt}, null, null) as outputs from tasks where id = ${run.taskId}`);
      return row ? { plan: row.plan, outputs: outputsFor(row.plan, step, row.outputs) } : null;
    },

    async claim(grant, engine, run) {
      const [row] = await answered(sql<{ claim: ClaimRow | null }[]>`
        select line_claim(${grant.row}, ${grant.grantId}, ${grant.host}, ${grant.hostEpoch}, ${engine}, ${run?.runId ?? null}, ${run?.firstRunId ?? null}) as claim`);
      const claim = only(row).claim;
      return claim && claimOf(claim);
    },

    async holds(claim) {
      const rows = await answered(sql`select 1 from line where id = ${claim.row} and state = 'running' and claim_token = ${claim.token}`);
      return rows.count === 1;
    },

    async note(claim, events) {
      const [row] = await answered(sql<{ mine: boolean }[]>`select line_note(${claim.row}, ${claim.token}, ${storedJson(sql, events)}) as mine`);
      return only(row).mine;
    },

    async finish(claim, output, usage, events = []) {
      const [row] = await answered(sql<{ execution: { execution_id: string; output_bytes: number; closed: boolean } | null }[]>`
        select line_finish(${claim.row}, ${claim.token}, ${claim.step.type}, ${storedJson(sql, output)}, ${Buffer.byteLength(JSON.stringify(output))},
          ${storedJson(sql, usage)}, ${continuedKey(claim)}, ${isLast(claim)}, ${storedJson(sql, events)}) as execution`);
      const execution = only(row).execution;
      return execution && { executionId: execution.execution_id, outputBytes: execution.output_bytes, ...(execution.closed && { closed: true }) };
    },

    async fail(claim, failure, usage, events = []) {
      const error = { code: failure.code, message: failure.message, ...(failure.details === undefined ? {} : { details: failure.details }) };
      const [row] = await answered(sql<{ mine: boolean }[]>`
        select line_fail(${claim.row}, ${claim.token}, ${claim.step.type}, ${executionStatus(failure.code)}, ${storedJson(sql, error)}, ${storedJson(sql, usage)}, ${storedJson(sql, events)}) as mine`);
      return only(row).mine;
    },

    async leave(run, stepId, cause) {
      await answered(sql`select line_leave(${run.taskId}, ${run.attempt}, ${run.runId}, ${stepId}, ${storedText(cause)})`);
    },

    async close(run, end) {
      const [row] = await answered(sql<{ current: boolean }[]>`
        select line_close(${run.taskId}, ${run.attempt}, ${run.runId}, ${run.firstRunId}, ${end.status}, ${end.error && storedJson(sql, end.error)}) as current`);
      return only(row).current;
    },
  };
}

/** A grant as the functions of PostgreSQL write it. */
export interface GrantRow {
  readonly row: string;
  readonly grant_id: string;
  readonly granted_at_ms: number;
  readonly pool: Pool;
  readonly key: string | null;
  readonly host: string;
  readonly host_epoch: number;
  readonly slot: number;
}

export function grantOf(row: GrantRow): Grant {
  const queue = row.key === null ? generalQueue : modelQueue(row.host, row.key);
  return {
    row: row.row,
    grantId: row.grant_id,
    grantedAtMs: row.granted_at_ms,
    queue,
    pool: row.pool,
    host: row.host,
    hostEpoch: row.host_epoch,
    slot: row.slot,
  };
}

type EnteredRow =
  | { readonly state: 'stale' }
  | { readonly state: 'done'; readonly execution_id: string; readonly output_bytes: number }
  | { readonly state: 'waiting'; readonly row: string; readonly try: number; readonly exact: number }
  | ({ readonly state: 'granted'; readonly try: number; readonly exact: number } & GrantRow);

function enteredOf(entered: EnteredRow): Entered {
  switch (entered.state) {
    case 'stale':
      return { state: 'stale' };
    case 'done':
      return { state: 'done', execution: { executionId: entered.execution_id, outputBytes: entered.output_bytes } };
    case 'waiting':
      return { state: 'waiting', row: entered.row, tryNo: entered.try, exact: entered.exact };
    case 'granted':
      return { state: 'granted', row: entered.row, tryNo: entered.try, exact: entered.exact, grant: grantOf(entered) };
  }
}

export interface StepOutput {
  readonly step: string;
  readonly output: JsonObject;
}

interface ClaimRow {
  readonly row: string;
  readonly token: string;
  readonly task_id: string;
  readonly attempt: number;
  readonly step_attempt: number;
  readonly try: number;
  readonly run_id: string;
  readonly step: string;
  readonly user_id: string;
  readonly plan: Plan;
  readonly outputs: StepOutput[];
}

function claimOf(claim: ClaimRow): Claim {
  const step = claim.plan.steps.find((candidate) => candidate.id === claim.step);
  if (!step) throw new Error(`task ${claim.task_id} has no step ${claim.step} in its plan`);
  return {
    row: claim.row,
    token: claim.token,
    taskId: claim.task_id,
    attempt: claim.attempt,
    stepAttempt: claim.step_attempt,
    tryNo: claim.try,
    runId: claim.run_id,
    plan: claim.plan,
    step,
    outputs: outputsFor(claim.plan, step, claim.outputs),
    userId: claim.user_id,
  };
}

/**
 * What a step may name: outputs of the steps before it, `{}` for those that were skipped.
 * @param outputs completed steps of the attempt, latest first
 */
export function outputsFor(plan: Plan, step: PlanStep, outputs: readonly StepOutput[]): StepOutputs {
  const before = stepsBefore(plan, step);
  const completed = outputs.filter((output) => before.has(output.step));
  const steps: Record<string, JsonObject> = Object.fromEntries([...before].map((id) => [id, {}]));
  for (const { step: id, output } of completed) steps[id] = output;
  return { steps, previous: completed[0]?.output ?? null };
}

function stepsBefore(plan: Plan, step: PlanStep): ReadonlySet<string> {
  const before = new Set(step.needs);
  // A set hands out what is added while it is walked; so this reaches every step that has to end before.
  for (const id of before) for (const need of plan.steps.find((candidate) => candidate.id === id)?.needs ?? []) before.add(need);
  return before;
}

/** Whether every other step of the plan has ended before this one. */
function isLast({ plan, step }: Claim): boolean {
  return stepsBefore(plan, step).size === plan.steps.length - 1;
}

/** The key of this step when the plan's only direct successor needs it too, else null: its model is kept for a moment. */
function continuedKey({ plan, step }: Claim): string | null {
  const [next, ...others] = plan.steps.filter((candidate) => candidate.needs.includes(step.id));
  if (!next?.model || !step.model || others.length > 0) return null;
  const key = residencyKey(step.model);
  return residencyKey(next.model) === key ? key : null;
}

function executionStatus(code: string): 'failed' | 'cancelled' | 'void' {
  if (code === 'cancelled') return 'cancelled';
  return code === failureCodes.grantReturned || code === failureCodes.grantVoid ? 'void' : 'failed';
}

/** The one row of a query that always has one. */
function only<T>(row: T | undefined): T {
  if (row === undefined) throw new Error('PostgreSQL returned no row');
  return row;
}
