import type { StepEvent } from '../../contract/event.js';
import type { FailureInfo } from '../../contract/failure.js';
import type { Claim, RunIdentity, Usage } from '../../contract/line.js';
import type { JsonObject } from '../../contract/json.js';
import type { Plan } from '../../contract/plan.js';
import type { Sql } from '../../db/connect.js';
import { createWorld, identity, key } from '../integration/db/line-world.js';

type Run = RunIdentity & { readonly plan: Plan };

/** The moves that an engine makes for the steps of tasks that were submitted, so that a test without one has tasks that run and have run. */
export function movedSteps(sql: Sql) {
  const world = createWorld(sql);
  const output = (claim: Claim, text: string, stream: 'text' | 'stdout' | 'stderr' = 'text'): StepEvent => ({
    kind: 'output',
    data: { step: claim.step.id, attempt: claim.attempt, stream, text },
  });
  return {
    line: world.line,
    enter: world.enter,

    /** An engine with free slots and a host that serves `llama3.2`, for as long as the tests take. */
    async ready(): Promise<void> {
      await world.engine(8);
      await world.host({ parallel: 4, serving: [key] });
      await sql`update engines set lease_until = now() + interval '1 day'`;
      await sql`update hosts set lease_until = now() + interval '1 day'`;
    },

    /** The present attempt of a task. */
    async run(taskId: string): Promise<Run> {
      const [row] = await sql<{ plan: Plan; attempt: number }[]>`select plan, attempt from tasks where id = ${taskId}`;
      if (row === undefined) throw new Error(`no task ${taskId}`);
      const runId = `run ${row.attempt} of ${taskId}`;
      return { taskId, attempt: row.attempt, runId, firstRunId: runId, plan: row.plan };
    },

    /** Begins a step, which has to get a slot at once. */
    begin: (run: Run, step?: string): Promise<Claim> => world.claimed(run, step),

    tell: (claim: Claim, text: string, stream?: 'text' | 'stdout' | 'stderr') => world.line.note(claim, [output(claim, text, stream)]),

    finish: (claim: Claim, result: JsonObject, usage: Usage = {}) => world.line.finish(claim, result, usage),

    /** Ends a step, and with it its task. */
    async fail(run: Run, claim: Claim, failure: Pick<FailureInfo, 'code' | 'message' | 'details'>, usage: Usage = {}): Promise<void> {
      await world.line.fail(claim, failure, usage);
      await world.line.close(identity(run), { status: 'failed', error: { ...failure, step: claim.step.id, attempt: claim.stepAttempt } });
    },
  };
}

/** What a model step records of one inference. */
export const inferenceUsage: Usage = {
  modelName: 'llama3.2:latest',
  inferenceTimeSeconds: 9.4,
  memoryUsedGb: 2.4,
  metrics: {
    inferences: 1,
    prompt_tokens: 40,
    output_tokens: 120,
    total_duration_ms: 9_400,
    load_duration_ms: 400,
    prompt_eval_duration_ms: 1_000,
    eval_duration_ms: 8_000,
  },
};
