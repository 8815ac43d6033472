import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { decideOnce } from '../../../db/decide.js';
import { checkInvariants } from '../../../db/invariants.js';
import { chain, planOf, planStep } from '../../support/plans.js';
import { createTestDatabase, type TestDatabase } from '../../support/servers.js';
import { createWorld, engine, host, identity, key, modelStep, policy, resetRun } from './line-world.js';

let db: TestDatabase;
let world: ReturnType<typeof createWorld>;

beforeAll(async () => {
  db = await createTestDatabase();
  world = createWorld(db.sql);
});
afterAll(() => db.drop());
beforeEach(() => world.empty());
afterEach(async () => expect(await checkInvariants(db.sql)).toEqual([]));

describe('enter', () => {
  test('a step that nobody is before is granted in the same call', async () => {
    await world.engine(2);
    const entered = await world.enter(await world.task());
    expect(entered).toMatchObject({
      state: 'granted',
      tryNo: 1,
      exact: 50,
      grant: { pool: 'general', host: 'general', hostEpoch: 0, slot: 1, queue: 'general' },
    });
  });

  test('a repeat returns the row as it is', async () => {
    const task = await world.task();
    const first = await world.enter(task);
    expect(first.state).toBe('waiting');
    expect(await world.enter(task)).toEqual(first);
    await world.engine(1);
    await decideOnce(db.sql, policy);
    const granted = await world.enter(task);
    expect(granted.state).toBe('granted');
    expect(await world.enter(task)).toEqual(granted);
  });

  test('no step is granted past one that waits', async () => {
    const first = await world.task();
    await world.enter(first);
    await world.engine(5);
    expect((await world.enter(await world.task())).state).toBe('waiting');
  });

  test('a step of a resident model is not granted past one that waits for another model', async () => {
    await world.host({ parallel: 4, serving: [key] });
    const other = await world.task({ plan: chain(modelStep('one', { model: { name: 'other:latest', numCtx: 4096 } })) });
    expect((await world.enter(other)).state).toBe('waiting');
    expect((await world.enter(await world.task({ plan: chain(modelStep('one')) }))).state).toBe('waiting');
  });

  test('a model step is granted at once only on a serving key of a live, ready host that is not to be unloaded', async () => {
    const enterModel = async () => {
      const entered = await world.enter(await world.task({ plan: chain(modelStep('one')) }));
      await db.sql`delete from line`;
      return entered.state;
    };
    expect(await enterModel()).toBe('waiting');
    await world.host({ serving: [key] });
    expect(await enterModel()).toBe('granted');
    await db.sql`update residency set state = 'draining'`;
    expect(await enterModel()).toBe('waiting');
    await db.sql`update residency set state = 'serving'`;
    await db.sql`insert into residency_orders (host, host_epoch, unload, reason) values (${host}, 1, ${[key]}, 'test')`;
    expect(await enterModel()).toBe('waiting');
    await db.sql`delete from residency_orders`;
    await db.sql`update hosts set ready = false`;
    expect(await enterModel()).toBe('waiting');
    await db.sql`update hosts set ready = true, lease_until = now() - interval '1 second'`;
    expect(await enterModel()).toBe('waiting');
    await db.sql`update hosts set lease_until = now() + interval '1 minute', epoch = 2`;
    expect(await enterModel()).toBe('waiting');
  });

  test('slots are given once each, over all engines', async () => {
    await world.engine(1);
    await world.engine(1, 'engine-2');
    const entered = [await world.enter(await world.task()), await world.enter(await world.task()), await world.enter(await world.task())];
    expect(entered.map((each) => (each.state === 'granted' ? each.grant.slot : each.state))).toEqual([1, 2, 'waiting']);
  });

  test('a run of another attempt, or a second first run of a final task, is stale and leaves no trace', async () => {
    const task = await world.task();
    expect(await world.enter({ ...task, attempt: 2 })).toEqual({ state: 'stale' });
    expect(await world.enter({ ...task, taskId: randomUUID() })).toEqual({ state: 'stale' });
    await world.line.close(identity(task), { status: 'failed', error: null });
    expect(await world.enter(task)).toEqual({ state: 'stale' });
    const second = randomUUID();
    expect(await world.enter({ ...task, runId: second, firstRunId: second })).toEqual({ state: 'stale' });
    expect(await db.sql`select * from line`).toHaveLength(0);
  });

  test('a reset run of a final task opens it again [TASK-06]', async () => {
    await world.engine(1);
    const task = await world.task();
    await world.complete(task);
    const reset = resetRun(task);
    const entered = await world.enter(reset);
    expect(entered).toMatchObject({ state: 'granted', tryNo: 2 });
    expect(await world.taskRow(task.taskId)).toMatchObject({ status: 'running', completed_at: null, result: null });
    expect(await world.events(task.taskId)).toContain('reset_outside');
    expect(await world.enter(task)).toEqual({ state: 'stale' });
  });

  test('a reset run ends the rows of the run before, which is not heard any more', async () => {
    await world.engine(2);
    const task = await world.task({ plan: planOf(planStep('one'), planStep('two')) });
    const one = await world.claimed(task, 'one');
    await world.enter(task, 'two');
    const reset = resetRun(task);
    const again = await world.enter(reset, 'one');
    expect(again).toMatchObject({ state: 'granted', tryNo: 2 });
    expect(await db.sql`select step, cause from line where state = 'void' order by step`).toMatchObject([
      { step: 'one', cause: 'superseded' },
      { step: 'two', cause: 'superseded' },
    ]);
    expect(await world.line.finish(one, { text: 'late' }, {})).toBeNull();
    expect(await world.enter(task, 'two')).toEqual({ state: 'stale' });
    expect(await world.line.close(identity(task), { status: 'cancelled', error: null })).toBe(false);
  });

  test('a step that this run has finished is not run again, one of a reset run is', async () => {
    await world.engine(1);
    const task = await world.task({ plan: chain(planStep('one'), planStep('two')) });
    const execution = await world.line.finish(await world.claimed(task, 'one'), { text: 'x' }, {});
    expect(await world.enter(task, 'one')).toEqual({ state: 'done', execution });
    expect((await world.enter(resetRun(task), 'one')).state).toBe('granted');
  });

  test('a new run after a loss of Temporal goes on after the last recorded step', async () => {
    await world.engine(1);
    const task = await world.task({ plan: chain(planStep('one'), planStep('two')) });
    const execution = await world.line.finish(await world.claimed(task, 'one'), { text: 'x' }, {});
    const runId = randomUUID();
    const fresh = { ...task, runId, firstRunId: runId };
    expect(await world.enter(fresh, 'one')).toEqual({ state: 'done', execution });
    expect((await world.enter(fresh, 'two')).state).toBe('granted');
  });

  test('a lost slot costs no place: the next try stands where the step stood', async () => {
    await world.engine(1);
    const task = await world.task();
    const grant = await world.granted(task);
    await world.line.leave(identity(task), 'one', 'lost');
    const again = await world.enter(task);
    if (again.state !== 'granted') throw new Error(again.state);
    const [before, after] = [await world.row(grant.row), await world.row(again.row)];
    expect(after).toMatchObject({ try: 2, pos: before['pos'], entered_at: before['entered_at'] });
  });
});

describe('dependencies', () => {
  test('a step waits until every dependency is completed, then is granted by the next decision [SCHED-08]', async () => {
    await world.engine(1);
    const parents = [await world.task(), await world.task()];
    const child = await world.task({ after: parents.map((parent) => parent.taskId) });
    expect((await world.enter(child)).state).toBe('waiting');
    await world.complete(parents[0]!);
    expect(await decideOnce(db.sql, policy)).toMatchObject({ granted: [] });
    await world.complete(parents[1]!);
    expect(await decideOnce(db.sql, policy)).toMatchObject({ granted: [{ workflowId: `task-${child.taskId}` }] });
  });

  test('a dependency that failed keeps its dependents waiting', async () => {
    await world.engine(1);
    const parent = await world.task();
    const child = await world.task({ after: [parent.taskId] });
    await world.enter(child);
    await world.line.close(identity(parent), { status: 'failed', error: null });
    expect(await decideOnce(db.sql, policy)).toMatchObject({ granted: [] });
  });

  test('blocked steps do not keep others from being granted at once', async () => {
    await world.engine(1);
    const child = await world.task({ after: [(await world.task()).taskId] });
    await world.enter(child);
    expect((await world.enter(await world.task())).state).toBe('granted');
  });

  test('parents that complete at the same time, while the child enters, always let it go', async () => {
    for (let round = 0; round < 15; round++) {
      await world.empty();
      const parents = [await world.task(), await world.task(), await world.task()];
      const child = await world.task({ after: parents.map((parent) => parent.taskId) });
      await Promise.all([world.enter(child), ...parents.map((parent) => world.line.close(identity(parent), { status: 'completed', error: null }))]);
      await world.engine(1);
      expect(await decideOnce(db.sql, policy)).toMatchObject({ granted: [{ workflowId: `task-${child.taskId}` }] });
    }
  });
});

describe('holds', () => {
  test('a claim holds while its row runs under it, and no longer', async () => {
    await world.engine(1);
    const claim = await world.claimed(await world.task());
    expect(await world.line.holds(claim)).toBe(true);
    expect(await world.line.holds({ ...claim, token: randomUUID() })).toBe(false);
    await world.line.finish(claim, { text: 'x' }, {});
    expect(await world.line.holds(claim)).toBe(false);
  });
});

describe('claim', () => {
  test('the first claim starts the task and brings what the step works with', async () => {
    await world.engine(1);
    const task = await world.task();
    const claim = await world.claimed(task);
    expect(claim).toMatchObject({
      taskId: task.taskId,
      attempt: 1,
      stepAttempt: 1,
      tryNo: 1,
      runId: task.runId,
      userId: 'ada',
      plan: task.plan,
      step: task.plan.steps[0],
    });
    expect(claim.outputs).toEqual({ steps: {}, previous: null });
    const row = await world.taskRow(task.taskId);
    expect(row).toMatchObject({ status: 'running', first_run_id: task.runId });
    expect(row['started_at']).toBeInstanceOf(Date);
    expect(await world.events(task.taskId)).toEqual(['started', 'step_started']);
  });

  test('a grant is claimed once', async () => {
    await world.engine(1);
    const grant = await world.granted(await world.task());
    const claims = await Promise.all([world.line.claim(grant, engine), world.line.claim(grant, engine), world.line.claim(grant, 'engine-2')]);
    expect(claims.filter((claim) => claim !== null)).toHaveLength(1);
  });

  test('a grant that is not the row’s present one is void', async () => {
    await world.engine(1);
    const grant = await world.granted(await world.task());
    expect(await world.line.claim({ ...grant, grantId: randomUUID() }, engine)).toBeNull();
    expect(await world.line.claim({ ...grant, row: '999999' }, engine)).toBeNull();
  });

  test('a grant on a host is void under another epoch and after the lease', async () => {
    await world.host({ serving: [key] });
    const grant = await world.granted(await world.task({ plan: chain(modelStep('one')) }));
    expect(grant.queue).toBe(`model:${host}:${key}`);
    expect(await world.line.claim({ ...grant, hostEpoch: 2 }, null)).toBeNull();
    expect(await world.line.claim({ ...grant, host: 'host-2' }, null)).toBeNull();
    await db.sql`update hosts set lease_until = now() - interval '1 second'`;
    expect(await world.line.claim(grant, null)).toBeNull();
    await db.sql`update hosts set lease_until = now() + interval '1 minute'`;
    expect(await world.line.claim(grant, null)).not.toBeNull();
  });

  test('the claim brings the outputs of the steps before, and {} for a skipped one', async () => {
    await world.engine(1);
    const plan = chain(planStep('a'), planStep('b'), planStep('c', { deferred: [{ path: ['text'], template: '{{ steps.a.text }}' }] }));
    const task = await world.task({ plan: { ...plan, steps: [...plan.steps, planStep('apart')] } });
    await world.line.finish(await world.claimed(task, 'apart'), { text: 'apart' }, {});
    await world.line.finish(await world.claimed(task, 'a'), { text: 'from a' }, {});
    const claim = await world.claimed(task, 'c');
    expect(claim.outputs).toEqual({ steps: { a: { text: 'from a' }, b: {} }, previous: { text: 'from a' } });
    expect((await world.line.context(identity(task), world.stepOf(task.plan, 'c')))?.outputs).toEqual(claim.outputs);
  });

  test('a step that defers nothing still finds the output before it', async () => {
    await world.engine(1);
    const task = await world.task({ plan: chain(planStep('a'), planStep('b'), planStep('c')) });
    await world.line.finish(await world.claimed(task, 'a'), { text: 'from a' }, {});
    await world.line.finish(await world.claimed(task, 'b'), { text: 'from b' }, {});
    expect((await world.claimed(task, 'c')).outputs.previous).toEqual({ text: 'from b' });
  });
});

describe('finish and fail', () => {
  test('the last step of a plan completes its task and lets its dependents go, in one transaction', async () => {
    await world.engine(3);
    const parent = await world.task({ plan: chain(planStep('one'), planStep('two')) });
    const child = await world.task({ after: [parent.taskId] });
    expect((await world.enter(child)).state).toBe('waiting');
    expect(await world.line.finish(await world.claimed(parent, 'one'), { text: '1' }, {})).not.toHaveProperty('closed');
    const last = await world.claimed(parent, 'two');
    expect(await world.line.finish(last, { text: '2' }, {})).toMatchObject({ closed: true });
    expect(await world.line.finish(last, { text: 'again' }, {})).toMatchObject({ closed: true });
    const [task] = await db.sql`select status, result from tasks where id = ${parent.taskId}`;
    expect(task).toEqual({ status: 'completed', result: { text: '2', steps: { one: { text: '1' }, two: { text: '2' } } } });
    expect(await db.sql`select 1 from line where task_id = ${child.taskId} and not_before = '-infinity'`).toHaveLength(1);
    expect(await world.line.close(identity(parent), { status: 'cancelled', error: null })).toBe(false);
  });

  test('of parallel steps none completes the task by itself', async () => {
    await world.engine(2);
    const task = await world.task({ plan: planOf(planStep('left'), planStep('right')) });
    for (const step of ['left', 'right']) expect(await world.line.finish(await world.claimed(task, step), {}, {})).not.toHaveProperty('closed');
    expect(await world.line.close(identity(task), { status: 'completed', error: null })).toBe(true);
  });

  test('a result is committed once, and a repeat finds it', async () => {
    await world.engine(1);
    const task = await world.task();
    const claim = await world.claimed(task);
    const first = await world.line.finish(claim, { text: 'x' }, { exitCode: 0, logs: 'done' });
    expect(first?.outputBytes).toBe(12);
    expect(await world.line.finish(claim, { text: 'y' }, {})).toEqual(first);
    const executions = await db.sql`select * from task_executions`;
    expect(executions).toHaveLength(1);
    expect(executions[0]).toMatchObject({
      id: first?.executionId,
      status: 'completed',
      output: { text: 'x' },
      exit_code: 0,
      logs: 'done',
      step: 'one',
      step_type: 'test_step',
    });
    expect(await world.row(claim.row)).toMatchObject({ state: 'done', execution_id: first?.executionId });
  });

  test('a result for a slot that was taken back is discarded', async () => {
    await world.engine(1);
    const task = await world.task();
    const claim = await world.claimed(task);
    await world.line.leave(identity(task), 'one', 'lost');
    expect(await world.line.finish(claim, { text: 'x' }, {})).toBeNull();
    expect(await world.line.fail(claim, { code: 'step_failed', message: 'late' }, {})).toBe(false);
    expect(await db.sql`select status from task_executions`).toEqual([{ status: 'void' }]);
  });

  test('what a step used is kept on its record, and inference is summed on the task', async () => {
    await world.host({ serving: [key] });
    const task = await world.task({ plan: chain(modelStep('one'), modelStep('two')) });
    const usage = { modelName: 'llama3.2:latest', modelDigest: 'abc', inferenceTimeSeconds: 1.5, memoryUsedGb: 2, metrics: { tokens: 7 } };
    await world.line.fail(await world.claimed(task, 'one'), { code: 'step_failed', message: 'no' }, usage);
    await world.line.finish(await world.claimed(task, 'two'), {}, { ...usage, memoryUsedGb: 1 });
    expect((await world.taskRow(task.taskId))['resource_usage']).toEqual({ model_name: 'llama3.2:latest', inference_time_seconds: 3, memory_used_gb: 2 });
    const [record] = await db.sql`select * from task_executions where status = 'failed'`;
    expect(record).toMatchObject({
      memory_used: 2,
      error: { code: 'step_failed', message: 'no' },
      metrics: { tokens: 7, model_name: 'llama3.2:latest', model_digest: 'abc', inference_time_seconds: 1.5 },
    });
  });

  test('a task without inference has no resource usage', async () => {
    await world.engine(1);
    const task = await world.task();
    await world.line.finish(await world.claimed(task), {}, { cpuSeconds: 1 });
    expect((await world.taskRow(task.taskId))['resource_usage']).toBeNull();
  });

  test('characters that PostgreSQL cannot store cost no result [bad-5]', async () => {
    await world.engine(1);
    const task = await world.task();
    const execution = await world.line.finish(await world.claimed(task), { text: 'a\0b\ud800c\\u0000', 'k\0': [1] }, { logs: 'x\0y' });
    const [record] = await db.sql`select output, logs from task_executions where id = ${execution?.executionId ?? null}`;
    expect(record).toEqual({ output: { text: 'a\ufffdb\ufffdc\\u0000', 'k\ufffd': [1] }, logs: 'x\ufffdy' });
  });

  test('a failed step frees its slot and leaves its record [TASK-17]', async () => {
    await world.engine(1);
    const task = await world.task();
    const claim = await world.claimed(task);
    expect(await world.line.fail(claim, { code: 'step_failed', message: 'no', details: [1] }, {})).toBe(true);
    expect(await world.line.fail(claim, { code: 'step_failed', message: 'no' }, {})).toBe(true);
    expect(await world.row(claim.row)).toMatchObject({ state: 'void', cause: 'step_failed' });
    expect(await world.events(task.taskId)).toEqual(['started', 'step_started', 'step_failed']);
    expect((await world.enter(task, 'one', 2)).state).toBe('granted');
  });

  test('a step whose only successor needs the same model keeps it for a moment', async () => {
    await world.host({ serving: [key] });
    const task = await world.task({ plan: chain(modelStep('one'), modelStep('two'), planStep('three')) });
    const one = await world.claimed(task, 'one');
    await world.line.finish(one, {}, {});
    expect(await world.row(one.row)).toMatchObject({ next_key: key });
    const two = await world.claimed(task, 'two');
    await world.line.finish(two, {}, {});
    expect(await world.row(two.row)).toMatchObject({ next_key: null });
  });
});

describe('leave and close', () => {
  test('leave ends the live row of this run and step only, and may be repeated', async () => {
    await world.engine(3);
    const task = await world.task({ plan: planOf(planStep('one'), planStep('two')) });
    const [one, two] = [await world.granted(task, 'one'), await world.granted(task, 'two')];
    await world.line.leave({ ...identity(task), runId: randomUUID() }, 'one', 'lost');
    expect(await world.row(one.row)).toMatchObject({ state: 'granted' });
    await world.line.leave(identity(task), 'one', 'lost');
    await world.line.leave(identity(task), 'one', 'lost');
    expect(await world.row(one.row)).toMatchObject({ state: 'void', cause: 'lost' });
    expect(await world.row(two.row)).toMatchObject({ state: 'granted' });
  });

  test('the result is the last step’s output with all outputs under steps [TASK-14]', async () => {
    await world.engine(1);
    const task = await world.task({ plan: chain(planStep('a'), planStep('skipped'), planStep('b')) });
    await world.line.finish(await world.claimed(task, 'a'), { text: '1' }, {});
    await world.line.finish(await world.claimed(task, 'b'), { text: '2', steps: 'not this' }, {});
    expect(await world.line.close(identity(task), { status: 'completed', error: null })).toBe(true);
    const row = await world.taskRow(task.taskId);
    expect(row).toMatchObject({ status: 'completed', error: null });
    expect(row['result']).toEqual({ text: '2', steps: { a: { text: '1' }, skipped: {}, b: { text: '2', steps: 'not this' } } });
    expect(await world.events(task.taskId)).toEqual(['started', 'step_started', 'step_finished', 'step_started', 'step_finished', 'completed']);
  });

  test('a close is written once; a repeat of the same end is answered alike, another end is refused', async () => {
    const task = await world.task();
    const error = { code: 'step_failed', message: 'no', step: 'one', attempt: 1 };
    expect(await world.line.close(identity(task), { status: 'failed', error })).toBe(true);
    expect(await world.line.close(identity(task), { status: 'failed', error })).toBe(true);
    expect(await world.line.close(identity(task), { status: 'completed', error: null })).toBe(false);
    expect(await world.line.close({ ...identity(task), attempt: 2 }, { status: 'failed', error })).toBe(false);
    expect(await world.taskRow(task.taskId)).toMatchObject({ status: 'failed', error });
    expect(await world.events(task.taskId)).toEqual(['failed']);
  });

  test('a close ends what is live and frees the agent [CONC-03]', async () => {
    await world.engine(2);
    const task = await world.task({ agent: 'ada-bot', plan: planOf(planStep('one'), planStep('two')) });
    const claim = await world.claimed(task, 'one');
    await world.enter(task, 'two');
    expect(await db.sql`select name from holds`).toEqual([{ name: 'agent:ada-bot' }]);
    await world.line.close(identity(task), { status: 'failed', error: { code: 'poison', message: 'x', step: 'one', attempt: 1 } });
    expect(await db.sql`select name from holds`).toEqual([]);
    expect(await db.sql`select cause from line`).toEqual([{ cause: 'poison' }, { cause: 'poison' }]);
    expect(await world.line.finish(claim, {}, {})).toBeNull();
  });

  test('one task of an agent runs at a time, and others pass those that wait for it [CONC-03]', async () => {
    await world.engine(3);
    const first = await world.task({ agent: 'bot' });
    await world.granted(first);
    const second = await world.task({ agent: 'bot' });
    expect((await world.enter(second)).state).toBe('waiting');
    const third = await world.task();
    await world.enter(third);
    expect(await decideOnce(db.sql, policy)).toMatchObject({ granted: [{ workflowId: `task-${third.taskId}` }] });
    await world.line.close(identity(first), { status: 'cancelled', error: null });
    expect(await decideOnce(db.sql, policy)).toMatchObject({ granted: [{ workflowId: `task-${second.taskId}` }] });
  });
});
