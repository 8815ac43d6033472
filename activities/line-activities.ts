import { ApplicationFailure } from '@temporalio/common';
import type { Logger } from 'pino';
import { StepFailure } from '../contract/failure.js';
import type { Entered, EnterRequest, Line, RunIdentity, TaskEnd } from '../contract/line.js';
import type { Meter } from '../contract/metrics.js';
import type { Renderer } from '../contract/plan.js';
import { noMeter } from '../metrics.js';
import { isBrokenRequest } from '../db/connect.js';
import type { Workspaces } from './workspace.js';

/** The moves of the line as local activities of `runTask`; see {@link Line}. Repeated until PostgreSQL answers. */
export interface LineActivities {
  enter(request: EnterRequest): Promise<Entered>;
  leave(run: RunIdentity, stepId: string, cause: string): Promise<void>;
  /** False: the run is stale and has written nothing. */
  close(run: RunIdentity, end: TaskEnd): Promise<boolean>;
}

export interface LineActivityDeps {
  readonly line: Line;
  readonly renderer: Renderer;
  readonly workspaces: Workspaces;
  readonly meter?: Meter;
  readonly log: Logger;
}

/** Local activities of the workflow worker. An error that a repeat cannot mend is marked so; every other one is repeated by Temporal. */
export function createLineActivities({ line, renderer, workspaces, meter = noMeter, log }: LineActivityDeps): LineActivities {
  const named = <Args extends [RunIdentity | EnterRequest, ...unknown[]], Result>(move: string, run: (...args: Args) => Promise<Result>) => {
    return async (...args: Args): Promise<Result> => {
      try {
        return await run(...args);
      } catch (error) {
        const of = 'run' in args[0] ? args[0].run : args[0];
        if (error instanceof StepFailure) throw ApplicationFailure.create({ type: error.code, message: error.message, nonRetryable: !error.retryable });
        log.error({ err: error, task_id: of.taskId, run_id: of.runId, move }, 'a move of the line failed');
        if (isBrokenRequest(error)) throw ApplicationFailure.nonRetryable('the line refused this step', 'unexpected');
        throw error;
      }
    };
  };
  return {
    enter: named('enter', async (request: EnterRequest) => {
      if (request.step.when !== undefined && !(await holds(request))) return { state: 'skipped' as const };
      const startedMs = performance.now();
      const entered = await line.enter(request);
      // Where nobody waits, entering is the decision too.
      if (entered.state === 'granted') meter.observe('scheduling_latency_ms', performance.now() - startedMs);
      return entered;
    }),
    leave: named('leave', (run: RunIdentity, stepId: string, cause: string) => line.leave(run, stepId, cause)),
    close: named('close', async (run: RunIdentity, end: TaskEnd) => {
      const current = await line.close(run, end);
      if (current)
        log.info(
          { task_id: run.taskId, attempt: run.attempt, status: end.status, ...(end.error === null ? {} : { code: end.error.code, reason: end.error.message }) },
          'task ended',
        );
      // The end is written. What a script left that nobody can remove holds up disk space, not the run; the sweep tries again.
      workspaces.remove(run).catch((error: unknown) => log.error({ err: error, task_id: run.taskId }, 'a workspace could not be removed'));
      return current;
    }),
  };

  async function holds({ run, step }: EnterRequest): Promise<boolean> {
    const known = await line.context(run, step);
    return known === null || renderer.condition(known.plan, step, known.outputs);
  }
}
