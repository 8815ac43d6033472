import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ExecutionView } from '../../contract/schemas/execution.js';
import { createGates, gateTemplates } from '../support/gate-step.js';
import { type Installation, startInstallation } from '../support/installation.js';

const gates = createGates();
let installation: Installation;
beforeAll(async () => {
  installation = await startInstallation({ steps: [gates.step], templates: gateTemplates });
  gates.open('first');
  gates.open('second');
});
afterAll(async () => installation.stop());

const executionsOf = async (id: string) => ((await installation.request('GET', `/api/v1/tasks/${id}/executions`)).body as { items: ExecutionView[] }).items;

test('a step that fails twice and then succeeds has three executions on record, with their errors [TASK-15, TASK-17]', async () => {
  gates.failNext('first', 2);
  const { id } = await installation.submit('gate-two', { first: 'first', second: 'second' });
  expect(await installation.finished(id)).toMatchObject({ status: 'completed', attempt: 1 });
  const executions = await executionsOf(id);
  expect(executions.map(({ step, step_attempt, status, error }) => [step, step_attempt, status, error?.code ?? null])).toEqual([
    ['one', 1, 'failed', 'gate_failed'],
    ['one', 2, 'failed', 'gate_failed'],
    ['one', 3, 'completed', null],
    ['two', 1, 'completed', null],
  ]);
  for (const each of executions) {
    expect(each).toMatchObject({ task_id: id, attempt: 1, step_type: 'gate' });
    expect(Date.parse(each.completed_at)).toBeGreaterThanOrEqual(Date.parse(each.started_at));
  }
});

test('the executions of a retried task are told apart by its attempt [TASK-17, TASK-18]', async () => {
  gates.failNext('fails', 1, { retryable: false });
  gates.open('fails');
  const { id } = await installation.submit('gate-one', { gate: 'fails' });
  expect(await installation.finished(id)).toMatchObject({ status: 'failed' });
  await installation.request('POST', `/api/v1/tasks/${id}/retry`);
  expect(await installation.finished(id)).toMatchObject({ status: 'completed', attempt: 2 });
  expect((await executionsOf(id)).map(({ attempt, status }) => [attempt, status])).toEqual([
    [1, 'failed'],
    [2, 'completed'],
  ]);
});

test('the executions of a task that is not there are not found [TASK-17]', async () => {
  const answer = await installation.request('GET', '/api/v1/tasks/00000000-0000-4000-8000-000000000000/executions');
  expect(answer).toMatchObject({ status: 404, body: { code: 'task_not_found' } });
});
