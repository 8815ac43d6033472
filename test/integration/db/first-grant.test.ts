import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { decideOnce, expireGrants } from '../../../db/decide.js';
import { checkInvariants } from '../../../db/invariants.js';
import { cancelTask, retryTask } from '../../../db/moves.js';
import { pauseQueue } from '../../../db/queue.js';
import { planOf, planStep } from '../../support/plans.js';
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

type Submitted = Awaited<ReturnType<typeof world.submit>>;
const rowsOf = (task: Submitted) => db.sql`select state, run_id, slot, not_before::text as until from line where task_id = ${task.taskId} order by id`;
const starts = (task: Submitted) => db.sql`select 1 from outbox where kind = 'start' and task_id = ${task.taskId}`;
/** Told again and again for longer than its workflow has. */
async function unanswered(task: Submitted): Promise<void> {
  await db.sql`update line set granted_at = granted_at - interval '16 seconds', signals = 2 where task_id = ${task.taskId} and state = 'granted'`;
  await expireGrants(db.sql);
}

test('a task that nobody is before is stored with the grant of its first step, and its run claims that without a move of its own', async () => {
  await world.engine(2);
  const task = await world.submit();
  expect(task.first).toMatchObject({ step: 'one', grant: { pool: 'general', host: 'general', slot: 1 } });
  expect(await starts(task)).toHaveLength(1);
  const claim = await world.line.claim(task.first!.grant, engine, identity(task));
  expect(claim).toMatchObject({ taskId: task.taskId, runId: task.runId, attempt: 1, tryNo: 1, step: { id: 'one' } });
  expect(await world.taskRow(task.taskId)).toMatchObject({ status: 'running', runs: [task.runId], first_run_id: task.runId });
  expect(await starts(task)).toHaveLength(0);
  expect(await world.line.finish(claim!, { text: 'x' }, {})).toMatchObject({ closed: true });
  expect(await world.events(task.taskId)).toEqual(['queued', 'started', 'step_started', 'step_finished', 'completed']);
  expect(await db.sql`select decision_type from orchestration_decisions where task_id = ${task.taskId}`).toEqual([{ decision_type: 'grant' }]);
});

test('a model step is granted with the submit where its model is served', async () => {
  await world.engine(1);
  await world.host({ serving: [key] });
  const task = await world.submit({ plan: planOf(modelStep('one')) });
  expect(task.first?.grant).toMatchObject({ pool: 'model', host, slot: 1 });
  expect((await world.submit({ plan: planOf(modelStep('one', { model: { name: 'other:latest', numCtx: 4096 } })) })).first).toBeNull();
});

test('nothing is granted with a submit past a row that waits, a pause or a full line, nor where no engine lives, and then nothing stands in the line', async () => {
  const refused = async (fields: Parameters<typeof world.submit>[0] = {}) => {
    const task = await world.submit(fields);
    expect(task.first).toBeNull();
    expect(await rowsOf(task)).toHaveLength(0);
    await db.sql`delete from tasks where id = ${task.taskId}`;
  };
  await world.host({ serving: [key] });
  await refused();
  await refused({ plan: planOf(modelStep('one')) });
  await world.engine(2);
  await pauseQueue(db.sql, 'queue', { by: 'ada', reason: null });
  await refused();
  await db.sql`delete from queue_pauses`;

  const first = await world.submit();
  const second = await world.submit();
  expect([first, second].map((task) => task.first?.grant.slot)).toEqual([1, 2]);
  await refused();

  await world.line.claim(second.first!.grant, engine, identity(second));
  const waiting = await world.task();
  expect(await world.enter(waiting)).toMatchObject({ state: 'waiting' });
  await db.sql`update engines set slots = 5`;
  await refused();
  expect(await checkInvariants(db.sql)).toEqual([]);
});

test('a submit leaves a slot to each task that was there before and whose run has not entered the line, also when it is known to be started', async () => {
  await world.engine(3);
  await world.host({ serving: [key] });
  const early = [await world.task(), await world.task()];
  await db.sql`delete from outbox`; // Temporal has them; no engine has run them yet
  const last = await world.submit();
  expect(last.first?.grant.slot).toBe(1);
  expect((await world.submit()).first).toBeNull();
  expect((await world.submit({ plan: planOf(modelStep('one')) })).first).toBeNull();
  await db.sql`delete from tasks where id not in ${db.sql([last, ...early].map(({ taskId }) => taskId))}`;
  for (const task of early) expect(await world.enter(task)).toMatchObject({ state: 'granted' });
  expect((await world.submit({ plan: planOf(modelStep('one')) })).first).not.toBeNull();
});

test('a first step that was never claimed is left by its run, and keeps no slot', async () => {
  await world.engine(1);
  const task = await world.submit();
  await world.line.leave(identity(task), 'one', 'activity_missing');
  expect(await rowsOf(task)).toMatchObject([{ state: 'void' }]);
  expect(await world.enter(task)).toMatchObject({ state: 'granted', tryNo: 2 });
});

test('a task with dependencies, or with several first steps, or with one that `when` decides about, enters by its run', async () => {
  await world.engine(4);
  const parent = await world.task();
  for (const fields of [
    { after: [parent.taskId] },
    { plan: planOf(planStep('one'), planStep('two')) },
    { plan: planOf(planStep('one', { when: '{{ parameters.x }}' }), planStep('two', { needs: ['one'] })) },
  ]) {
    expect((await world.submit(fields)).first).toBeNull();
  }
});

test('a run that was started without the grant, since its creator died, takes the row over as it is', async () => {
  await world.engine(2);
  const task = await world.submit();
  expect(await world.enter(task)).toMatchObject({ state: 'granted', tryNo: 1, grant: task.first!.grant });
  expect(await rowsOf(task)).toMatchObject([{ state: 'granted', run_id: task.runId }]);
  expect(await world.line.claim(task.first!.grant, engine)).toMatchObject({ runId: task.runId });
});

test('the answer to a submit that got lost is asked for again, and the grant is found by the run', async () => {
  await world.engine(2);
  const task = await world.submit();
  expect(await task.store()).toMatchObject({ outcome: 'created', first: null });
  expect(await rowsOf(task)).toHaveLength(1);
  expect(await world.enter(task)).toMatchObject({ state: 'granted', grant: task.first!.grant });
});

test('a grant whose run does not come in time is taken back, and when the run comes at last its step is not put off', async () => {
  await world.engine(1);
  const task = await world.submit();
  await unanswered(task);
  expect(await rowsOf(task)).toMatchObject([{ state: 'waiting', run_id: '' }]);
  expect(await world.line.claim(task.first!.grant, engine, identity(task))).toBeNull();
  expect(await decideOnce(db.sql, policy)).toMatchObject({ granted: [] }); // it is put off
  expect(await world.enter(task)).toMatchObject({ state: 'waiting', tryNo: 1 });
  expect(await rowsOf(task)).toMatchObject([{ state: 'waiting', run_id: task.runId, until: '-infinity' }]);
  expect(await decideOnce(db.sql, policy)).toMatchObject({ granted: [{ workflowId: `task-${task.taskId}` }] });
});

test('the grant is void for nobody in particular, for another run than the one that took it over, and after a cancel', async () => {
  await world.engine(3);
  const unnamed = await world.submit();
  expect(await world.line.claim(unnamed.first!.grant, engine)).toBeNull();
  await world.enter(unnamed);
  const reset = resetRun(unnamed);
  expect(await world.line.claim(unnamed.first!.grant, engine, identity(reset))).toBeNull();
  // the reset run enters, which ends what the run before it had
  expect(await world.enter(reset)).toMatchObject({ state: 'granted', tryNo: 2 });

  const cancelled = await world.submit();
  await cancelTask(db.sql, cancelled.taskId, null);
  expect(await world.line.claim(cancelled.first!.grant, engine, identity(cancelled))).toBeNull();
  expect(await world.enter(cancelled)).toMatchObject({ state: 'stale' });
  expect(await world.taskRow(cancelled.taskId)).toMatchObject({ status: 'cancelled' });
});

test('a run that was reset before anything began claims the grant as the run that it is', async () => {
  await world.engine(1);
  const task = await world.submit();
  const reset = resetRun(task);
  expect(await world.line.claim(task.first!.grant, engine, identity(reset))).toMatchObject({ runId: reset.runId });
  expect(await world.taskRow(task.taskId)).toMatchObject({ status: 'running', runs: [reset.runId], first_run_id: task.runId });
});

test('what a task needs is held with the grant of its submit, keeps others out, and is free when the grant goes [CONC-02]', async () => {
  await world.engine(4);
  const holder = await world.submit({ agent: 'bot' });
  expect(holder.first).not.toBeNull();
  await db.sql`delete from outbox`;
  expect((await world.submit({ agent: 'bot' })).first).toBeNull();
  expect(await db.sql`select task_id from holds where name = 'agent:bot'`).toEqual([{ task_id: holder.taskId }]);
  await unanswered(holder);
  expect(await db.sql`select 1 from holds`).toHaveLength(0);
  expect(await checkInvariants(db.sql)).toEqual([]);
});

test('of submits that come at the same time no two get one slot, and no more are granted than there are slots', async () => {
  await world.engine(3);
  const tasks = await Promise.all(Array.from({ length: 12 }, () => world.submit()));
  const slots = tasks.flatMap(({ first }) => (first ? [first.grant.slot] : []));
  expect(new Set(slots).size).toBe(slots.length);
  expect(slots.length).toBeLessThanOrEqual(3);
  expect(slots.length).toBeGreaterThan(0);
  expect(await checkInvariants(db.sql)).toEqual([]);
});

test('a start of an attempt after it knows nothing of the grant of the first', async () => {
  await world.engine(1);
  const task = await world.submit();
  const claim = await world.line.claim(task.first!.grant, engine, identity(task));
  await world.line.fail(claim!, { code: 'script_failed', message: 'x' }, {});
  await world.line.close(identity(task), { status: 'failed', error: { code: 'script_failed', message: 'x', step: 'one', attempt: 1 } });
  expect(await retryTask(db.sql, task.taskId, null)).toMatchObject({ outcome: 'retried', attempt: 2 });
  const runId = randomUUID();
  expect(await world.enter({ ...task, attempt: 2, runId, firstRunId: runId })).toMatchObject({ state: 'granted', tryNo: 1 });
});
