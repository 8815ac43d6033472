import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { decideOnce } from '../../../db/decide.js';
import { checkInvariants } from '../../../db/invariants.js';
import { cancelTask, moveTask, retryTask, setPriority } from '../../../db/moves.js';
import { closeOutside, openTasks, finalTasks, reopenTask, requeueStart } from '../../../db/reconcile.js';
import { planOf, planStep } from '../../support/plans.js';
import { createTestDatabase, type TestDatabase } from '../../support/servers.js';
import { createWorld, engine, identity, policy, resetRun } from './line-world.js';

let db: TestDatabase;
let world: ReturnType<typeof createWorld>;

beforeAll(async () => {
  db = await createTestDatabase();
  world = createWorld(db.sql);
});
afterAll(() => db.drop());
beforeEach(() => world.empty());
afterEach(async () => expect(await checkInvariants(db.sql)).toEqual([]));

const outbox = () => db.sql`select kind, workflow_id, payload from outbox order by id`;
const failed = { status: 'failed' as const, error: { code: 'step_failed', message: 'no', step: 'one', attempt: 1 } };

describe('cancel', () => {
  test('a cancelled task never starts, granted or not [TASK-09]', async () => {
    await world.engine(1);
    const [granted, waiting, created] = [await world.task({ agent: 'bot' }), await world.task(), await world.task()];
    const grant = await world.granted(granted);
    await world.enter(waiting);
    await db.sql`insert into outbox (kind, workflow_id, task_id, payload) values ('start', ${`task-${created.taskId}`}, ${created.taskId}, '{"attempt":1}')`;
    for (const task of [granted, waiting, created]) {
      expect(await cancelTask(db.sql, task.taskId, 'ada')).toEqual({ outcome: 'cancelled' });
      expect(await world.taskRow(task.taskId)).toMatchObject({ status: 'cancelled', started_at: null, completed_at: expect.any(Date) });
      expect(await world.events(task.taskId)).toEqual(['cancelled']);
    }
    expect(await world.line.claim(grant, engine)).toBeNull();
    expect(await decideOnce(db.sql, policy)).toEqual({ granted: [], ordered: [], refused: 0 });
    expect(await world.enter(created)).toEqual({ state: 'stale' });
    expect(await db.sql`select * from holds`).toHaveLength(0);
    expect((await outbox()).map((entry) => entry['kind'])).toEqual(['cancel', 'cancel', 'cancel']);
  });

  test('a running task is told to stop, takes no further step, and may still complete if that is first [TASK-10]', async () => {
    await world.engine(2);
    const task = await world.task({ plan: planOf(planStep('one'), planStep('two'), planStep('three')) });
    const claim = await world.claimed(task, 'one');
    const second = await world.granted(task, 'two');
    expect(await cancelTask(db.sql, task.taskId, null)).toEqual({ outcome: 'stopping' });
    expect(await cancelTask(db.sql, task.taskId, null)).toEqual({ outcome: 'stopping' });
    expect(await outbox()).toEqual([{ kind: 'cancel', workflow_id: `task-${task.taskId}`, payload: {} }]);
    expect(await world.line.claim(second, engine)).toBeNull();
    expect((await world.enter(task, 'three')).state).toBe('waiting');
    expect(await decideOnce(db.sql, policy)).toEqual({ granted: [], ordered: [], refused: 0 });
    expect(await world.line.finish(claim, {}, {})).not.toBeNull();
    expect(await world.line.close(identity(task), { status: 'completed', error: null })).toBe(true);
    expect(await world.taskRow(task.taskId)).toMatchObject({ status: 'completed' });
  });

  test('a finished task is not cancelled, a cancelled one stays as it is [TASK-11]', async () => {
    const [one, two] = [await world.task(), await world.task()];
    await world.line.close(identity(one), failed);
    await cancelTask(db.sql, two.taskId, null);
    const before = await world.taskRow(two.taskId);
    expect(await cancelTask(db.sql, one.taskId, null)).toEqual({ outcome: 'finished', status: 'failed' });
    expect(await cancelTask(db.sql, two.taskId, null)).toEqual({ outcome: 'unchanged' });
    expect(await world.taskRow(two.taskId)).toEqual(before);
  });

  test('a cancel and a claim at the same time: either it never starts, or it is stopped', async () => {
    await world.engine(1);
    for (let round = 0; round < 15; round++) {
      const task = await world.task();
      const grant = await world.granted(task);
      const [claim, cancel] = await Promise.all([world.line.claim(grant, engine), cancelTask(db.sql, task.taskId, null)]);
      expect(cancel).toEqual({ outcome: claim ? 'stopping' : 'cancelled' });
      await world.line.close(identity(task), { status: 'cancelled', error: null });
    }
  });
});

describe('priority', () => {
  test('a raised task starts next, without a restart [TASK-12]', async () => {
    const tasks = await Promise.all(Array.from({ length: 20 }, () => world.task()));
    for (const task of tasks) await world.enter(task);
    const last = tasks.at(-1)?.taskId ?? '';
    expect(await setPriority(db.sql, last, 'ada', 90)).toEqual({ outcome: 'changed' });
    expect(await setPriority(db.sql, last, 'ada', 90)).toEqual({ outcome: 'unchanged' });
    await world.engine(1);
    expect(await decideOnce(db.sql, policy)).toMatchObject({ granted: [{ workflowId: `task-${last}` }] });
    expect(await outbox()).toEqual([{ kind: 'signal', workflow_id: `task-${last}`, payload: { name: 'priority', args: [90] } }]);
    expect(await world.events(last)).toEqual(['priority_changed']);
    expect(await world.taskRow(last)).toMatchObject({ priority: 90, priority_level: 9 });
  });

  test('a moved task stands directly before or after the other, with its priority [SCHED-22]', async () => {
    const [a, b, c, d] = [await world.task({ exact: 70 }), await world.task(), await world.task(), await world.task({ exact: 20 })];
    for (const task of [a, b, c, d]) await world.enter(task);
    expect(await moveTask(db.sql, d.taskId, null, { side: 'before', neighbour: c.taskId, version: null })).toMatchObject({ outcome: 'changed' });
    expect(await moveTask(db.sql, a.taskId, null, { side: 'after', neighbour: b.taskId, version: null })).toMatchObject({ outcome: 'changed' });
    const order = await db.sql`select task_id from line order by level desc, exact desc, pos, id`;
    expect(order.map((row) => row['task_id'])).toEqual([b, a, d, c].map((task) => task.taskId));
    expect(await world.taskRow(d.taskId)).toMatchObject({ priority: 50 });
    expect(await moveTask(db.sql, b.taskId, null, { side: 'after', neighbour: b.taskId, version: null })).toEqual({ outcome: 'neighbour_unknown' });
  });

  test('a task moved to the end stays before those that arrive later', async () => {
    const [a, b] = [await world.task(), await world.task()];
    await moveTask(db.sql, a.taskId, null, { side: 'after', neighbour: b.taskId, version: null });
    const late = await world.task();
    const order = await db.sql`select id from tasks order by pos`;
    expect(order.map((row) => row['id'])).toEqual([b.taskId, a.taskId, late.taskId]);
  });

  test('tasks can be moved between the same two again and again', async () => {
    const [a, b, c] = [await world.task(), await world.task(), await world.task()];
    for (let round = 0; round < 40; round++) {
      await moveTask(db.sql, c.taskId, null, { side: 'after', neighbour: a.taskId, version: null });
      await moveTask(db.sql, b.taskId, null, { side: 'after', neighbour: a.taskId, version: null });
    }
    const order = await db.sql`select id from tasks order by pos`;
    expect(order.map((row) => row['id'])).toEqual([a.taskId, b.taskId, c.taskId]);
  });

  test('a finished task keeps its priority', async () => {
    const task = await world.task();
    await world.line.close(identity(task), failed);
    expect(await setPriority(db.sql, task.taskId, null, 90)).toEqual({ outcome: 'finished', status: 'failed' });
  });
});

describe('retry', () => {
  test('a failed task is queued again as its next attempt, and lets its dependents go when it completes [TASK-18]', async () => {
    await world.engine(1);
    const task = await world.task();
    const child = await world.task({ after: [task.taskId] });
    await world.enter(child);
    await world.line.fail(await world.claimed(task), { code: 'step_failed', message: 'no' }, {});
    await world.line.close(identity(task), failed);
    await db.sql`insert into outbox (kind, workflow_id, task_id) values ('cancel', 'x', ${task.taskId})`;
    expect(await retryTask(db.sql, task.taskId, 'ada')).toEqual({ outcome: 'retried', attempt: 2 });
    expect(await retryTask(db.sql, task.taskId, 'ada')).toEqual({ outcome: 'not_retryable', status: 'queued' });
    expect(await world.taskRow(task.taskId)).toMatchObject({
      status: 'queued',
      attempt: 2,
      error: null,
      started_at: null,
      completed_at: null,
      first_run_id: null,
    });
    expect(await outbox()).toEqual([{ kind: 'start', workflow_id: `task-${task.taskId}`, payload: { attempt: 2 } }]);
    expect(await world.enter(task)).toEqual({ state: 'stale' });
    const { runId } = resetRun(task);
    await world.complete({ ...task, attempt: 2, runId, firstRunId: runId });
    expect(await decideOnce(db.sql, policy)).toMatchObject({ granted: [{ workflowId: `task-${child.taskId}` }] });
  });
});

describe('owners', () => {
  test('nobody moves another one’s task, an administrator moves every task [SEC-03]', async () => {
    const task = await world.task({ user: 'ada' });
    expect(await cancelTask(db.sql, task.taskId, 'bob')).toEqual({ outcome: 'not_found' });
    expect(await setPriority(db.sql, task.taskId, 'bob', 90)).toEqual({ outcome: 'not_found' });
    expect(await retryTask(db.sql, task.taskId, 'bob')).toEqual({ outcome: 'not_found' });
    expect(await moveTask(db.sql, task.taskId, 'bob', { side: 'before', neighbour: (await world.task()).taskId, version: null })).toEqual({
      outcome: 'not_found',
    });
    expect(await cancelTask(db.sql, '00000000-0000-4000-8000-000000000000', null)).toEqual({ outcome: 'not_found' });
    expect(await cancelTask(db.sql, task.taskId, null)).toEqual({ outcome: 'cancelled' });
  });
});

describe('reconcile', () => {
  test('a task whose workflow ended outside is failed, and nothing of it stays in the line', async () => {
    await world.engine(1);
    const task = await world.task({ agent: 'bot' });
    const claim = await world.claimed(task);
    expect(await closeOutside(db.sql, task, { code: 'ended_outside', message: 'its workflow was terminated' })).toBe(true);
    expect(await closeOutside(db.sql, task, { code: 'ended_outside', message: 'its workflow was terminated' })).toBe(false);
    expect(await world.taskRow(task.taskId)).toMatchObject({ status: 'failed', error: { code: 'ended_outside', step: null, attempt: 1 } });
    expect(await world.row(claim.row)).toMatchObject({ state: 'void', cause: 'ended_outside' });
    expect(await db.sql`select * from holds`).toHaveLength(0);
    expect(await world.line.close(identity(task), { status: 'completed', error: null })).toBe(false);
  });

  test('a task without a workflow is started again with the same attempt, once', async () => {
    const task = await world.task();
    expect(await openTasks(db.sql, { unchangedMs: 600_000, limit: 10 })).toEqual([]);
    expect(await openTasks(db.sql, { unchangedMs: 0, limit: 10 })).toMatchObject([
      { taskId: task.taskId, attempt: 1, workflowId: `task-${task.taskId}`, runId: null, startPending: false },
    ]);
    expect(await requeueStart(db.sql, task)).toBe(true);
    expect(await requeueStart(db.sql, task)).toBe(false);
    expect(await openTasks(db.sql, { unchangedMs: 0, limit: 10 })).toMatchObject([{ startPending: true }]);
    expect(await requeueStart(db.sql, { ...task, attempt: 2 })).toBe(false);
  });

  test('a run that was reset outside opens its final task, a known run does not [TASK-06]', async () => {
    await world.engine(1);
    const task = await world.task();
    await world.complete(task);
    expect(await finalTasks(db.sql, [task.taskId])).toMatchObject([{ taskId: task.taskId, runId: task.runId }]);
    expect(await reopenTask(db.sql, task, task.runId)).toBe(false);
    const reset = resetRun(task);
    expect(await reopenTask(db.sql, task, reset.runId)).toBe(true);
    expect(await world.taskRow(task.taskId)).toMatchObject({ status: 'running', completed_at: null });
    expect(await world.complete(reset)).toBe(true);
  });
});
