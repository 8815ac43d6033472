import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Context } from '@temporalio/activity';
import { type Client, WorkflowFailedError } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import type { NativeConnection } from '@temporalio/worker';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { StepCall } from '../../../activities/step-activities.js';
import { failureCodes } from '../../../contract/failure.js';
import { taskWorkflowId } from '../../../contract/ids.js';
import type { FirstGrant } from '../../../contract/line.js';
import type { Plan } from '../../../contract/plan.js';
import { generalQueue, workflowQueue } from '../../../contract/queues.js';
import { connectClient, connectNative } from '../../../temporal/client.js';
import { installRuntime } from '../../../temporal/runtime.js';
import { createActivityWorker, createWorkflowWorker } from '../../../temporal/worker.js';
import { grantSignal, lostSignal, prioritySignal, progressQuery, refusedSignal, type TaskStart } from '../../../workflows/run-task.messages.js';
import { createMemoryLine, grantOf, granted, type MemoryLine, waiting } from '../../support/memory-line.js';
import { chain, planOf, planStep } from '../../support/plans.js';
import { eventually, takeNamespace, temporalAddress } from '../../support/servers.js';

type Perform = (call: StepCall, nth: number) => Promise<unknown> | unknown;

installRuntime(pino({ level: 'silent' }));

let client: Client;
let native: NativeConnection;
let namespace: string;
let cacheDir: string;

beforeAll(async () => {
  namespace = takeNamespace();
  const target = { address: temporalAddress(), namespace };
  client = await connectClient(target);
  native = await connectNative(target);
  cacheDir = await mkdtemp(path.join(tmpdir(), 'bundle-'));
}, 120_000);

afterAll(async () => {
  await native.close();
  await client.connection.close();
  await rm(cacheDir, { recursive: true });
});

// Without a cache every task of a run replays its whole history, as after a restart or under memory pressure.
describe.each([
  { runs: 'kept in memory', maxCachedWorkflows: 1_000 },
  { runs: 'replayed at every turn', maxCachedWorkflows: 0 },
])('of runs $runs:', ({ maxCachedWorkflows }) => {
  /** Runs workers with this line and step for as long as `use` takes. */
  async function withWorkers<T>(line: MemoryLine, perform: Perform, use: () => Promise<T>): Promise<T> {
    const counts = new Map<string, number>();
    const test_step = async (call: StepCall) => {
      const nth = (counts.get(call.step) ?? 0) + 1;
      counts.set(call.step, nth);
      const beats = setInterval(() => Context.current().heartbeat(), 500);
      try {
        await perform(call, nth);
        return { executionId: `${call.step}-${nth}`, outputBytes: 2 };
      } finally {
        clearInterval(beats);
      }
    };
    const workflows = await createWorkflowWorker({
      connection: native,
      namespace,
      activities: { enter: line.enter, leave: line.leave, close: line.close },
      log: pino({ level: 'silent' }),
      cacheDir,
      maxCachedWorkflows,
    });
    const steps = await createActivityWorker({ connection: native, namespace, taskQueue: generalQueue, activities: { test_step }, slots: 5, graceMs: 1_000 });
    return workflows.runUntil(steps.runUntil(use()));
  }

  async function start(plan: Plan, first?: FirstGrant) {
    const taskId = randomUUID();
    const input: TaskStart = { taskId, attempt: 1, plan, exact: 50, priorityLevels: 60, hearsLost: true, ...(first ? { first } : {}) };
    return client.workflow.start('runTask', { workflowId: taskWorkflowId(taskId), taskQueue: workflowQueue, args: [input] });
  }

  const stepsEntered = (line: MemoryLine) => line.calls.flatMap((call) => (call.move === 'enter' ? [call.step] : []));
  const failing = (code: string, options: { nonRetryable?: boolean; claimed?: boolean; told?: boolean } = {}) =>
    ApplicationFailure.create({
      type: code,
      message: `${code} happened`,
      nonRetryable: options.nonRetryable ?? false,
      details: [{ claimed: options.claimed ?? true, ...(options.told === undefined ? {} : { told: options.told }) }],
    });

  describe('a plan', () => {
    test('runs its steps in the order of the list and ends completed', async () => {
      const line = createMemoryLine();
      await withWorkers(
        line,
        () => {},
        async () => {
          const run = await start(chain(planStep('clone'), planStep('run'), planStep('store')));
          expect(await run.result()).toEqual({ status: 'completed' });
        },
      );
      expect(stepsEntered(line)).toEqual(['clone', 'run', 'store']);
      expect(line.ends).toEqual([{ status: 'completed', error: null }]);
      expect(line.calls.some((call) => call.move === 'leave')).toBe(false);
    });

    test('runs steps that need nothing of each other at the same time, and a step after all it needs', async () => {
      const line = createMemoryLine();
      const order: string[] = [];
      let release = () => {};
      const bothRun = new Promise<void>((resolve) => {
        release = resolve;
      });
      const running = new Set<string>();
      const plan = planOf(planStep('left'), planStep('right'), planStep('join', { needs: ['left', 'right'] }));
      await withWorkers(
        line,
        async ({ step }) => {
          running.add(step);
          if (running.has('left') && running.has('right')) release();
          if (step !== 'join') await bothRun; // each of the two waits for the other
          order.push(step);
        },
        async () => {
          expect(await (await start(plan)).result()).toEqual({ status: 'completed' });
        },
      );
      expect(order.at(-1)).toBe('join');
    });
  });

  describe('a task that came with the grant of its first step', () => {
    const first: FirstGrant = { step: 'clone', grant: grantOf('clone-0') };

    test('runs that step under it as this run, and enters the line for those behind it', async () => {
      const line = createMemoryLine();
      const calls: StepCall[] = [];
      await withWorkers(
        line,
        (call) => void calls.push(call),
        async () => {
          const run = await start(chain(planStep('clone'), planStep('run')), first);
          expect(await run.result()).toEqual({ status: 'completed' });
          const { runId } = await run.describe();
          expect(calls.map(({ step, grant, run: of }) => ({ step, row: grant.row, of }))).toEqual([
            { step: 'clone', row: 'clone-0', of: { runId, firstRunId: runId } },
            { step: 'run', row: 'run-1', of: undefined },
          ]);
        },
      );
      expect(stepsEntered(line)).toEqual(['run']);
    });

    test('enters the line when that grant is void, which counts for nothing, and for each later attempt', async () => {
      const line = createMemoryLine();
      await withWorkers(
        line,
        (_call, nth) => {
          if (nth === 1) throw failing(failureCodes.grantVoid, { nonRetryable: true, claimed: false });
          if (nth === 2) throw failing('script_failed');
        },
        async () => {
          expect(await (await start(planOf(planStep('clone')), first)).result()).toEqual({ status: 'completed' });
        },
      );
      expect(line.calls.flatMap((call) => (call.move === 'enter' ? [call.stepAttempt] : []))).toEqual([1, 2]);
    });
  });

  describe('a step whose process is gone', () => {
    test('is entered again as soon as its run hears of it, long before its heartbeat is missed, and what it still says is not heard', async () => {
      const line = createMemoryLine();
      let end: (value?: unknown) => void = () => {};
      const silent = new Promise((resolve) => {
        end = resolve;
      });
      await withWorkers(
        line,
        (_call, nth) => (nth === 1 ? silent : undefined),
        async () => {
          const run = await start(planOf(planStep('only')));
          await eventually(async () => (await run.query(progressQuery)).steps[0]?.state === 'running');
          await run.signal(lostSignal, 'another row');
          await run.signal(lostSignal, 'only-1');
          expect(await run.result()).toEqual({ status: 'completed' });
          end();
        },
      );
      expect(line.calls.map((call) => (call.move === 'enter' ? `enter ${call.step} ${call.stepAttempt}` : call.move))).toEqual([
        'enter only 1',
        'leave',
        'enter only 1',
        'close',
      ]);
    });

    test('counts towards poison, as one whose heartbeat was missed [TASK-17]', async () => {
      const line = createMemoryLine();
      let tries = 0;
      await withWorkers(
        line,
        async (call, nth) => {
          tries = nth;
          await client.workflow.getHandle(taskWorkflowId(call.taskId)).signal(lostSignal, call.grant.row);
          await Context.current().cancelled;
        },
        async () => {
          await (await start(planOf(planStep('only')))).result().catch(() => {});
        },
      );
      expect(tries).toBe(4);
      // What a given-up try still says may come while the run ends, which then makes its last moves again.
      expect(new Set(line.ends.map(({ error }) => error?.code))).toEqual(new Set([failureCodes.poison]));
    });

    test('counts for a quarter all the same when the process lives, and says a moment later that its slot was taken back [fault-11, fault-18]', async () => {
      const line = createMemoryLine();
      let tries = 0;
      await withWorkers(
        line,
        async (call, nth) => {
          tries = nth;
          if (nth > 5) return;
          await new Promise((resolve) => setTimeout(resolve, 1_200)); // no lease is lost again before the process before has said it
          await client.workflow.getHandle(taskWorkflowId(call.taskId)).signal(lostSignal, call.grant.row);
          await Context.current().cancelled.catch(() => {});
          throw failing(failureCodes.grantVoid, { nonRetryable: true, told: true });
        },
        async () => {
          expect(await (await start(planOf(planStep('only')))).result()).toEqual({ status: 'completed' });
        },
      );
      expect(tries).toBe(6);
    });

    test('runs under the grant that its row has now, when nobody claimed the one before', async () => {
      const line = createMemoryLine();
      const grants: string[] = [];
      await withWorkers(
        line,
        async ({ grant }) => {
          grants.push(grant.grantId);
          if (grant.grantId !== 'anew') await Context.current().cancelled;
        },
        async () => {
          const run = await start(planOf(planStep('only')));
          await eventually(async () => grants.length > 0);
          await run.signal(grantSignal, grantOf('only-1')); // told again
          await run.signal(grantSignal, grantOf('only-1', 'anew'));
          expect(await run.result()).toEqual({ status: 'completed' });
        },
      );
      expect(grants).toEqual(['grant of only-1', 'anew']);
      expect(stepsEntered(line)).toEqual(['only']);
    });

    test('goes on when a signal of an earlier grant comes late', async () => {
      const line = createMemoryLine();
      const grants: string[] = [];
      let end: (value?: unknown) => void = () => {};
      const ended = new Promise((resolve) => {
        end = resolve;
      });
      await withWorkers(
        line,
        async ({ grant }) => {
          grants.push(grant.grantId);
          const { cancelled } = Context.current();
          await (grant.grantId === 'anew' ? Promise.race([ended, cancelled]) : cancelled);
        },
        async () => {
          const run = await start(planOf(planStep('only')));
          await eventually(async () => grants.length === 1);
          await run.signal(grantSignal, { ...grantOf('only-1', 'anew'), grantedAtMs: 2_000.5 });
          await eventually(async () => grants.length === 2);
          await run.signal(grantSignal, { ...grantOf('only-1', 'late'), grantedAtMs: 2_000.25 });
          await run.query(progressQuery);
          end();
          expect(await run.result()).toEqual({ status: 'completed' });
        },
      );
      expect(grants).toEqual(['grant of only-1', 'anew']);
      expect(stepsEntered(line)).toEqual(['only']);
    });
  });

  describe('a failing step', () => {
    test('is attempted again as its policy says, and the task completes [TASK-15]', async () => {
      const line = createMemoryLine();
      await withWorkers(
        line,
        (_call, nth) => {
          if (nth < 3) throw failing('step_failed');
        },
        async () => {
          expect(await (await start(planOf(planStep('flaky')))).result()).toEqual({ status: 'completed' });
        },
      );
      expect(line.calls.flatMap((call) => (call.move === 'enter' ? [call.stepAttempt] : []))).toEqual([1, 2, 3]);
    });

    test('ends the task with its code, step and attempt, and the run shows as failed [TASK-14]', async () => {
      const line = createMemoryLine();
      await withWorkers(
        line,
        () => {
          throw failing('script_failed');
        },
        async () => {
          const error = await (await start(chain(planStep('run'), planStep('store')))).result().catch((cause: unknown) => cause);
          expect(error).toBeInstanceOf(WorkflowFailedError);
          expect((error as WorkflowFailedError).cause).toMatchObject({ type: 'script_failed' });
        },
      );
      expect(line.ends).toEqual([{ status: 'failed', error: { code: 'script_failed', message: 'script_failed happened', step: 'run', attempt: 3 } }]);
      expect(stepsEntered(line)).toEqual(['run', 'run', 'run']);
    });

    test('is skipped when its template says so, and the steps behind it run [DUR-09]', async () => {
      const line = createMemoryLine();
      const plan = chain(planStep('extra', { onFailure: 'skip', retry: { ...planStep('x').retry, maximumAttempts: 1 } }), planStep('after'));
      await withWorkers(
        line,
        ({ step }) => {
          if (step === 'extra') throw failing('step_failed');
        },
        async () => {
          expect(await (await start(plan)).result()).toEqual({ status: 'completed' });
        },
      );
      expect(stepsEntered(line)).toEqual(['extra', 'after']);
    });

    test('fails the task at once with fail_workflow [DUR-09]', async () => {
      const line = createMemoryLine();
      await withWorkers(
        line,
        () => {
          throw failing('step_failed');
        },
        async () => {
          await (await start(planOf(planStep('only', { onFailure: 'fail_workflow' })))).result().catch(() => {});
        },
      );
      expect(stepsEntered(line)).toEqual(['only']);
      expect(line.ends).toMatchObject([{ status: 'failed' }]);
    });

    test('of a parallel plan cancels its siblings, which leave the line', async () => {
      const line = createMemoryLine((request, tryNo) => (request.step.id === 'waits' ? waiting(request, tryNo) : granted(request, tryNo)));
      await withWorkers(
        line,
        () => {
          throw failing('step_failed', { nonRetryable: true });
        },
        async () => {
          await (await start(planOf(planStep('waits'), planStep('fails')))).result().catch(() => {});
        },
      );
      expect(line.calls).toContainEqual({ move: 'leave', step: 'waits', cause: 'cancelled' });
      expect(line.ends).toMatchObject([{ status: 'failed', error: { step: 'fails' } }]);
    });
  });

  describe('a lost grant', () => {
    test('makes the step enter the line again, and is no attempt', async () => {
      const line = createMemoryLine();
      await withWorkers(
        line,
        (_call, nth) => {
          if (nth === 1) throw failing(failureCodes.grantVoid, { nonRetryable: true, claimed: false });
          if (nth === 2) throw failing(failureCodes.grantReturned, { nonRetryable: true });
        },
        async () => {
          expect(await (await start(planOf(planStep('only')))).result()).toEqual({ status: 'completed' });
        },
      );
      expect(line.calls.flatMap((call) => (call.move === 'enter' ? [call.stepAttempt] : []))).toEqual([1, 1, 1]);
    });

    test('a step that loses its process again and again fails as poison after four claims [fault-11]', async () => {
      const line = createMemoryLine();
      await withWorkers(
        line,
        () => {
          throw failing(failureCodes.grantReturned, { nonRetryable: true });
        },
        async () => {
          await (await start(planOf(planStep('killer')))).result().catch(() => {});
        },
      );
      expect(stepsEntered(line)).toHaveLength(4);
      expect(line.ends).toMatchObject([{ status: 'failed', error: { code: 'poison', step: 'killer' } }]);
    });

    test('a process that says itself that its slot was taken back counts for a quarter: the database was away, as a rule [fault-11, fault-18]', async () => {
      const line = createMemoryLine();
      await withWorkers(
        line,
        () => {
          throw failing(failureCodes.grantVoid, { nonRetryable: true, told: true });
        },
        async () => {
          await (await start(planOf(planStep('killer')))).result().catch(() => {});
        },
      );
      expect(stepsEntered(line)).toHaveLength(13);
      expect(line.ends).toMatchObject([{ status: 'failed', error: { code: 'poison', step: 'killer' } }]);
    });
  });

  describe('a waiting step', () => {
    test('runs when its row is granted; grants of other rows and repeats are ignored', async () => {
      const line = createMemoryLine(waiting);
      const grants: string[] = [];
      await withWorkers(
        line,
        ({ grant }) => void grants.push(grant.grantId),
        async () => {
          const run = await start(planOf(planStep('only')));
          await eventually(() => stepsEntered(line).length === 1);
          await run.signal(grantSignal, grantOf('somebody else'));
          expect((await run.query(progressQuery)).steps).toEqual([{ id: 'only', type: 'test_step', state: 'waiting' }]);
          await run.signal(grantSignal, grantOf('only-1'));
          expect(await run.result()).toEqual({ status: 'completed' });
        },
      );
      expect(grants).toEqual(['grant of only-1']);
    });

    test('a refusal that no repeat mends fails the task with its code [MODEL-13]', async () => {
      const line = createMemoryLine(waiting);
      await withWorkers(
        line,
        () => {},
        async () => {
          const run = await start(planOf(planStep('only')));
          await run.signal(refusedSignal, { row: 'only-1', code: 'model_not_found', message: 'no such model', retryable: false });
          await run.result().catch(() => {});
        },
      );
      expect(line.ends).toMatchObject([{ status: 'failed', error: { code: 'model_not_found', message: 'no such model' } }]);
    });

    test('a cancel takes the step out of the line and ends the run cancelled [TASK-09]', async () => {
      const line = createMemoryLine(waiting);
      await withWorkers(
        line,
        () => {},
        async () => {
          const run = await start(planOf(planStep('only')));
          await eventually(() => stepsEntered(line).length === 1);
          await run.cancel();
          await run.result().catch(() => {});
          expect((await run.describe()).status.name).toBe('CANCELLED');
        },
      );
      expect(line.calls.slice(1)).toEqual([
        { move: 'leave', step: 'only', cause: 'cancelled' },
        { move: 'close', end: { status: 'cancelled', error: null } },
      ]);
    });
  });

  test('a cancel reaches a running step, and the run ends only when the step has stopped [TASK-10]', async () => {
    const line = createMemoryLine();
    let stopped = false;
    await withWorkers(
      line,
      async () => {
        await Context.current().cancelled.catch(async (error: unknown) => {
          await new Promise((resolve) => setTimeout(resolve, 200));
          stopped = true;
          throw error;
        });
      },
      async () => {
        const run = await start(planOf(planStep('long')));
        await eventually(async () => (await run.query(progressQuery)).steps[0]?.state === 'running');
        await run.cancel();
        await run.result().catch(() => {});
        expect(stopped).toBe(true);
      },
    );
    expect(line.ends).toEqual([{ status: 'cancelled', error: null }]);
  });

  test('a stale run ends without a trace in the line', async () => {
    const line = createMemoryLine(() => ({ state: 'stale' }));
    await withWorkers(
      line,
      () => {},
      async () => {
        expect(await (await start(planOf(planStep('only')))).result()).toEqual({ status: 'stale' });
      },
    );
    expect(line.calls).toEqual([{ move: 'enter', step: 'only', stepAttempt: 1 }]);
  });

  test('a step whose result is committed already is not run again', async () => {
    const line = createMemoryLine(() => ({ state: 'done', execution: { executionId: 'before', outputBytes: 2 } }));
    let performed = 0;
    await withWorkers(
      line,
      () => void performed++,
      async () => {
        expect(await (await start(planOf(planStep('only')))).result()).toEqual({ status: 'completed' });
      },
    );
    expect(performed).toBe(0);
  });

  test('a changed priority is the Temporal priority of the steps not yet granted [SCHED-21]', async () => {
    const line = createMemoryLine(waiting);
    await withWorkers(
      line,
      () => {},
      async () => {
        const run = await start(planOf(planStep('only')));
        await run.signal(prioritySignal, 100);
        await run.signal(grantSignal, grantOf('only-1'));
        await run.result();
        const events = (await run.fetchHistory()).events ?? [];
        const scheduled = events.find((event) => event.activityTaskScheduledEventAttributes)?.activityTaskScheduledEventAttributes;
        expect(scheduled?.priority?.priorityKey).toBe(1);
        expect(scheduled?.activityType?.name).toBe('test_step');
      },
    );
  });
});
