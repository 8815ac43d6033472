import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { taskWorkflowId } from '../../contract/ids.js';
import { checkInvariants } from '../../db/invariants.js';
import { createGates, gateTemplates } from '../support/gate-step.js';
import { type Installation, startInstallation } from '../support/installation.js';
import { eventually } from '../support/servers.js';

const gates = createGates();
let orchestra: Installation;
let names = 0;
/** A gate that no other test uses. */
const gate = () => `gate ${(names += 1)}`;

beforeAll(async () => {
  orchestra = await startInstallation({ templates: gateTemplates, steps: [gates.step], env: { MAX_WORKERS: '2' } });
}, 120_000);
afterAll(async () => {
  expect(await checkInvariants(orchestra.sql)).toEqual([]);
  await orchestra.stop();
});

const arrivals = (name: string) => gates.arrived.filter((arrived) => arrived === name).length;
const hasArrived = (name: string) => eventually(() => arrivals(name) > 0);
/** Takes both slots of the engine, so that what comes next waits; each of the results lets one of them go. */
async function fillSlots(): Promise<[() => Promise<unknown>, () => Promise<unknown>]> {
  const hold = async () => {
    const name = gate();
    const task = await orchestra.submit('gate-one', { gate: name });
    await hasArrived(name);
    return () => {
      gates.open(name);
      return orchestra.finished(task.id);
    };
  };
  return [await hold(), await hold()];
}

describe('outputs', () => {
  test('of a step feed the steps behind it, and the result has all of them by id [TPL-22, TASK-14]', async () => {
    const [first, second] = [gate(), gate()];
    gates.open(first);
    gates.open(second);
    const task = await orchestra.finished((await orchestra.submit('gate-two', { first, second })).id);
    expect(task.result).toEqual({
      name: second,
      text: `after ${first}`,
      steps: { one: { name: first, text: first }, two: { name: second, text: `after ${first}` } },
    });
  });
});

describe('attempts', () => {
  test('a step that fails twice is tried a third time, three executions are on record, and the task stays running [TASK-15, TASK-06]', async () => {
    const [first, second] = [gate(), gate()];
    gates.failNext(first, 2);
    gates.open(first);
    gates.open(second);
    const task = await orchestra.finished((await orchestra.submit('gate-two', { first, second })).id);
    expect(task).toMatchObject({ status: 'completed', attempt: 1 });
    const executions = await orchestra.sql`select step_attempt, status from task_executions where task_id = ${task.id} and step = 'one' order by started_at`;
    expect(executions.map((row) => [row['step_attempt'], row['status']])).toEqual([
      [1, 'failed'],
      [2, 'failed'],
      [3, 'completed'],
    ]);
  });

  test('a failed task can be retried under its id, and its dependents go on when it completes [TASK-18, SCHED-08]', async () => {
    const [first, second, dependent] = [gate(), gate(), gate()];
    gates.failNext(first, 1, { retryable: false });
    gates.open(first);
    gates.open(second);
    gates.open(dependent);
    const parent = await orchestra.submit('gate-two', { first, second });
    const child = await orchestra.submit('gate-one', { gate: dependent }, { depends_on: [parent.id] });
    expect(await orchestra.finished(parent.id)).toMatchObject({ status: 'failed', error: { code: 'gate_failed', step: 'one', attempt: 1 } });
    expect(await orchestra.task(child.id)).toMatchObject({ status: 'queued', status_detail: 'blocked', blocked_by: [parent.id] });

    const retried = await orchestra.request('POST', `/api/v1/tasks/${parent.id}/retry`);
    expect(retried.body).toMatchObject({ id: parent.id, status: 'queued', attempt: 2 });
    expect(await orchestra.finished(parent.id)).toMatchObject({ status: 'completed', attempt: 2 });
    expect(await orchestra.finished(child.id)).toMatchObject({ status: 'completed' });
  });
});

describe('dependencies', () => {
  test('of a diamond hold each task back until all before it have completed [SCHED-07]', async () => {
    const [top, left, right, bottom] = [gate(), gate(), gate(), gate()];
    const first = await orchestra.submit('gate-one', { gate: top });
    const sides = [
      await orchestra.submit('gate-one', { gate: left }, { depends_on: [first.id] }),
      await orchestra.submit('gate-one', { gate: right }, { depends_on: [first.id] }),
    ];
    const last = await orchestra.submit('gate-one', { gate: bottom }, { depends_on: sides.map((task) => task.id) });
    expect(await orchestra.task(last.id)).toMatchObject({ status: 'queued', status_detail: 'waiting_dependency' });
    await hasArrived(top);
    gates.open(top);
    await hasArrived(left);
    await hasArrived(right);
    gates.open(left);
    await orchestra.finished(sides[0]?.id ?? '');
    expect(arrivals(bottom)).toBe(0);
    gates.open(right);
    gates.open(bottom);
    expect(await orchestra.finished(last.id)).toMatchObject({ status: 'completed' });
  });
});

describe('a cancel', () => {
  test('of a queued task: it never starts [TASK-09]', async () => {
    const slots = await fillSlots();
    const name = gate();
    const task = await orchestra.submit('gate-one', { gate: name });
    const answer = await orchestra.request('DELETE', `/api/v1/tasks/${task.id}`);
    expect(answer.status).toBe(200);
    expect(answer.body).toMatchObject({ status: 'cancelled', completed_at: expect.any(String) });
    for (const release of slots) await release();
    await eventually(async () => (await orchestra.client.workflow.getHandle(taskWorkflowId(task.id)).describe()).status.name !== 'RUNNING');
    expect(arrivals(name)).toBe(0);
  });

  test('of a running task ends its step and frees its slot [TASK-10]', async () => {
    const name = gate();
    const task = await orchestra.submit('gate-one', { gate: name });
    await hasArrived(name);
    expect((await orchestra.request('DELETE', `/api/v1/tasks/${task.id}`)).status).toBe(202);
    expect(await orchestra.finished(task.id)).toMatchObject({ status: 'cancelled' });
    expect(gates.aborted).toContain(name);
    expect(await orchestra.sql`select 1 from line where task_id = ${task.id} and state in ('waiting', 'granted', 'running')`).toHaveLength(0);
    await eventually(async () => (await orchestra.client.workflow.getHandle(taskWorkflowId(task.id)).describe()).status.name === 'CANCELLED');
  });
});

describe('a priority change', () => {
  test('of the last of 20 queued tasks makes it start next [TASK-12]', async () => {
    const [releaseOne, releaseOther] = await fillSlots();
    const waiting = Array.from({ length: 20 }, gate);
    for (const name of waiting) gates.open(name);
    const tasks = [];
    for (const name of waiting) tasks.push(await orchestra.submit('gate-one', { gate: name }));
    const last = tasks.at(-1);
    await eventually(async () => (await orchestra.sql`select 1 from line where state = 'waiting'`).length === 20);
    const from = gates.arrived.length;
    const changed = await orchestra.request('PATCH', `/api/v1/tasks/${last?.id}/priority`, { priority: 9 });
    expect(changed).toMatchObject({ status: 200, body: { priority: 9 } });
    await releaseOne(); // one slot is left, so steps start one after another
    for (const task of tasks) await orchestra.finished(task.id);
    const order = gates.arrived.slice(from).filter((name) => waiting.includes(name));
    expect(order[0]).toBe(waiting.at(-1));
    expect(order.slice(1)).toEqual(waiting.slice(0, -1));
    await releaseOther();
  });
});

describe('people who act in the Temporal Web UI', () => {
  test('terminate a run: its task is failed with ended_outside and its slot is free', async () => {
    const name = gate();
    const task = await orchestra.submit('gate-one', { gate: name });
    await hasArrived(name);
    await orchestra.client.workflow.getHandle(taskWorkflowId(task.id)).terminate('by hand');
    expect(await orchestra.finished(task.id, 60_000)).toMatchObject({ status: 'failed', error: { code: 'ended_outside' } });
    await eventually(() => gates.aborted.includes(name));
  }, 90_000);

  test('reset a finished run: its task runs again and ends, with the event reset_outside [TASK-06]', async () => {
    const [first, second] = [gate(), gate()];
    gates.open(first);
    gates.open(second);
    const task = await orchestra.finished((await orchestra.submit('gate-two', { first, second })).id);
    const handle = orchestra.client.workflow.getHandle(taskWorkflowId(task.id));
    const { runId } = await handle.describe();
    await orchestra.client.workflowService.resetWorkflowExecution({
      namespace: orchestra.config.temporal.namespace,
      workflowExecution: { workflowId: taskWorkflowId(task.id), runId },
      workflowTaskFinishEventId: firstWorkflowTask as never, // the generated type wants a Long; a number is encoded alike
      requestId: crypto.randomUUID(),
      reason: 'by hand',
    });
    await eventually(() => arrivals(second) === 2);
    expect(await orchestra.finished(task.id)).toMatchObject({ status: 'completed' });
    const events = await orchestra.sql`select kind from task_events where task_id = ${task.id} order by id`;
    expect(events.map((row) => row['kind'])).toContain('reset_outside');
  });

  test('pause and unpause a running step: it gives its slot back and runs again', async () => {
    const name = gate();
    const task = await orchestra.submit('gate-one', { gate: name });
    await hasArrived(name);
    const execution = { workflowId: taskWorkflowId(task.id) };
    const namespace = orchestra.config.temporal.namespace;
    const pending = (await orchestra.client.workflow.getHandle(execution.workflowId).describe()).raw.pendingActivities ?? [];
    const id = pending[0]?.activityId ?? '';
    await orchestra.client.workflowService.pauseActivity({ namespace, execution, id, identity: 'by hand' });
    await eventually(() => arrivals(name) === 2, { timeoutMs: 30_000 });
    gates.open(name);
    expect(await orchestra.finished(task.id)).toMatchObject({ status: 'completed' });
    const committed = await orchestra.sql`select 1 from task_executions where task_id = ${task.id} and status = 'completed'`;
    expect(committed).toHaveLength(1);
  });
});

const firstWorkflowTask = 4; // started, scheduled, started, completed

test('20 posts with one Idempotency-Key make one task, and another body is refused [TASK-23]', async () => {
  const name = gate();
  gates.open(name);
  const body = { template: 'gate-one', parameters: { gate: name } };
  const answers = await Promise.all(Array.from({ length: 20 }, () => orchestra.request('POST', '/api/v1/tasks', body, { 'Idempotency-Key': 'the-same' })));
  expect(answers.map((answer) => answer.status).sort()).toEqual([...Array(19).fill(200), 201]);
  expect(new Set(answers.map((answer) => answer.body.id)).size).toBe(1);
  const other = await orchestra.request('POST', '/api/v1/tasks', { ...body, priority: 7 }, { 'Idempotency-Key': 'the-same' });
  expect(other).toMatchObject({ status: 409, body: { code: 'idempotency_conflict' } });
  await orchestra.finished(answers[0]?.body.id);
  expect(arrivals(name)).toBe(1);
});
