import { pino } from 'pino';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { defineStep, outputBytesMax, type StepContext, type StepDefinition } from '../../activities/steps/define-step.js';
import { StepFailure } from '../../contract/failure.js';
import { taskWorkflowId } from '../../contract/ids.js';
import type { JsonObject } from '../../contract/json.js';
import type { TaskView } from '../../contract/schemas/task.js';
import { checkInvariants } from '../../db/invariants.js';
import { type Installation, startInstallation } from '../support/installation.js';
import { eventually } from '../support/servers.js';

interface Call {
  readonly step: string;
  readonly stepAttempt: number;
  readonly input: JsonObject;
}
type Behaviour = (call: Call, context: StepContext) => Promise<JsonObject> | JsonObject;

/** What the steps of type `act` do in the present test, by step id. */
const behaviours = new Map<string, Behaviour>();
/** calls of `act` by task, in order */
const calls = new Map<string, Call[]>();

/** A step whose author is the test. Its output may have any field. */
const act = defineStep({
  type: 'act',
  summary: 'Do what the test says.',
  input: z.object({ text: z.string().optional(), count: z.int().optional(), seen: z.record(z.string(), z.json()).optional() }),
  output: z.looseObject({}),
  policy: { pool: 'general', startToCloseMs: 60_000, attempts: 3 },
  example: '- { type: act, text: something }',
  async run(input, context) {
    const call: Call = { step: context.stepId, stepAttempt: context.stepAttempt, input: input as JsonObject };
    calls.set(context.taskId, [...(calls.get(context.taskId) ?? []), call]);
    return (await behaviours.get(context.stepId)?.(call, context)) ?? call.input;
  },
}) as unknown as StepDefinition;

/** A step type as somebody would add it: one module, every field declared. */
const repeatText = defineStep({
  type: 'repeat_text',
  summary: 'Repeat a text.',
  input: z.object({ text: z.string().min(1), times: z.int().min(1).max(3) }),
  output: z.object({ repeated: z.string() }),
  policy: { pool: 'general', startToCloseMs: 60_000, attempts: 1 },
  example: '- { type: repeat_text, text: hey, times: 2 }',
  async run({ text, times }) {
    return { repeated: text.repeat(times) };
  },
}) as unknown as StepDefinition;

const retryAtOnce = 'retry: { initial_interval_seconds: 0, max_interval_seconds: 0 }';
const template = (name: string, parameters: readonly string[], steps: readonly string[], settings: readonly string[] = [retryAtOnce]) =>
  [
    `name: ${name}`,
    ...settings,
    ...(parameters.length === 0 ? [] : ['parameters:', ...parameters.map((declared) => `  - { ${declared} }`)]),
    'steps:',
    ...steps.map((step) => `  - { ${step} }`),
  ].join('\n');
const edition = (text: string) => template('edition', [], ['id: first, type: act', `id: second, type: act, text: "${text}, {{ steps.first.text }}"`]);

const templates = {
  two: template(
    'two',
    ['name: text, type: string, default: ""'],
    ['id: first, type: act, text: "{{ text }}"', 'id: second, type: act, text: "after {{ steps.first.text }}"'],
  ),
  'counts-after': template('counts-after', [], ['id: first, type: act', 'id: second, type: act, count: "{{ steps.first.count }}"']),
  one: template('one', [], ['id: only, type: act']),
  'one-short': template('one-short', [], ['id: only, type: act, timeout_seconds: 0.3']),
  'when-parameter': template(
    'when-parameter',
    ['name: wanted, type: boolean, required: true'],
    ['id: maybe, type: act, text: ran, when: "{{ wanted }}"', 'id: after, type: act, seen: "{{ steps.maybe }}"'],
  ),
  'when-output': template(
    'when-output',
    [],
    ['id: first, type: act', 'id: maybe, type: act, text: ran, when: "steps.first.go"', 'id: after, type: act, seen: "{{ steps.maybe }}"'],
  ),
  'all-skipped': template('all-skipped', [], ['id: first, type: act, when: false', 'id: second, type: act, when: "steps.first.go is defined"']),
  'may-fail': template('may-fail', [], ['id: extra, type: act, on_failure: skip', 'id: after, type: act, seen: "{{ steps.extra }}"']),
  'must-not-fail': template('must-not-fail', [], ['id: only, type: act, on_failure: fail_workflow']),
  edition: edition('first edition'),
  repeat: template(
    'repeat',
    ['name: times, type: integer, required: true'],
    ['type: repeat_text, text: ho, times: "{{ times }}"', 'id: after, type: act, text: "{{ steps.repeat_text.repeated }}!"'],
  ),
};

const logged: JsonObject[] = [];
let orchestra: Installation;
beforeAll(async () => {
  const log = pino({ level: 'warn' }, { write: (line: string) => void logged.push(JSON.parse(line) as JsonObject) });
  orchestra = await startInstallation({ templates, steps: [act, repeatText], env: { MAX_WORKERS: '1' }, log });
}, 120_000);
afterAll(async () => {
  expect(await checkInvariants(orchestra.sql)).toEqual([]);
  await orchestra.stop();
});
beforeEach(() => behaviours.clear());

async function runToEnd(name: string, parameters: object = {}): Promise<TaskView> {
  const task = await orchestra.submit(name, parameters);
  return orchestra.finished(task.id);
}
const callsOf = (task: TaskView) => calls.get(task.id) ?? [];
const stepsCalled = (task: TaskView) => callsOf(task).map(({ step }) => step);
const executionsOf = (task: TaskView) =>
  orchestra.sql<{ step: string; status: string; metrics: JsonObject }[]>`
    select step, status, metrics from task_executions where task_id = ${task.id} order by started_at`;
/** A step that stands until the test lets it go. */
function hold(id: string, answer: Behaviour = ({ input }) => input) {
  let release = () => {};
  const released = new Promise<void>((resolve) => (release = resolve));
  behaviours.set(id, async (call, context) => {
    await released;
    return answer(call, context);
  });
  return release;
}

describe('the input of a step', () => {
  test('is rendered once, after the outputs it names are there: what a step gave stays text [TPL-17, bad-24]', async () => {
    behaviours.set('first', () => ({ text: '{{ 7*7 }}{% for x in [1] %}{{ text }}{% endfor %}' }));
    const task = await runToEnd('two');
    expect(callsOf(task)[1]).toMatchObject({ input: { text: 'after {{ 7*7 }}{% for x in [1] %}{{ text }}{% endfor %}' } });
    expect(task.status).toBe('completed');
  });

  test('that came as a parameter and passed through an output is still text [TPL-17, bad-24]', async () => {
    const text = '{{ 7*7 }} {{ steps.second.text }}", count: 3 }\n  - { type: act }\n';
    const task = await runToEnd('two', { text });
    expect(task).toMatchObject({ status: 'completed', result: { text: `after ${text}` } });
    expect(stepsCalled(task)).toEqual(['first', 'second']);
  });

  test('keeps the type of the output it names', async () => {
    behaviours.set('first', () => ({ count: 3 }));
    const task = await runToEnd('counts-after');
    expect(callsOf(task)[1]).toMatchObject({ input: { count: 3 } });
  });

  test('that turns out invalid fails the task without a second attempt, naming step and field', async () => {
    behaviours.set('first', () => ({ count: 'many' }));
    const task = await runToEnd('counts-after');
    expect(task).toMatchObject({
      status: 'failed',
      error: { code: 'invalid_step_input', step: 'second', attempt: 1, details: { faults: [expect.stringMatching(/^count: /)] } },
    });
    expect(stepsCalled(task)).toEqual(['first']);
    expect((await executionsOf(task)).map(({ step, status }) => [step, status])).toEqual([
      ['first', 'completed'],
      ['second', 'failed'],
    ]);
  });

  test('that names what the output does not have fails the task as template_error without a second attempt [TPL-15]', async () => {
    behaviours.set('first', () => ({ other: 1 }));
    const task = await runToEnd('counts-after');
    expect(task).toMatchObject({
      status: 'failed',
      error: { code: 'template_error', step: 'second', attempt: 1, message: expect.stringContaining('steps.first.count') },
    });
  });
});

describe('a limit', () => {
  const frame = Buffer.byteLength(JSON.stringify({ text: '' }));

  test('of 2 MB stands on the output of a step, and the step is not tried again', async () => {
    behaviours.set('only', () => ({ text: 'x'.repeat(outputBytesMax - frame + 1) }));
    const task = await runToEnd('one');
    expect(task).toMatchObject({ status: 'failed', error: { code: 'limit_exceeded', step: 'only', attempt: 1, details: { limit: 'output_bytes' } } });
    expect(task.result).toBeNull();
    expect(callsOf(task)).toHaveLength(1);
  });

  test('that is just kept is no failure', async () => {
    behaviours.set('only', () => ({ text: 'x'.repeat(outputBytesMax - frame) }));
    const task = await runToEnd('one');
    expect(task.status).toBe('completed');
    expect(String(task.result?.['text'])).toHaveLength(outputBytesMax - frame);
  });

  test('timeout_seconds aborts the step and ends the task, and the slot is free for the next', async () => {
    behaviours.set(
      'only',
      (_call, { signal }) => new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(new Error('noticed the abort')))),
    );
    const task = await runToEnd('one-short');
    expect(task).toMatchObject({ status: 'failed', error: { code: 'limit_exceeded', step: 'only', attempt: 1, details: { limit: 'timeout_seconds' } } });
    expect(callsOf(task)).toHaveLength(1);
    behaviours.clear();
    expect(await runToEnd('one')).toMatchObject({ status: 'completed' });
  });
});

test('an error without a name is retried, then shown as unexpected; what it said is in the log only, under the task id [DUR-09]', async () => {
  behaviours.set('only', () => {
    throw new Error('cannot open /var/lib/somewhere: password swordfish');
  });
  const task = await runToEnd('one');
  expect(task).toMatchObject({ status: 'failed', error: { code: 'unexpected', step: 'only', attempt: 3 } });
  const shown = {
    task,
    executions: await orchestra.sql`select error, logs, metrics from task_executions where task_id = ${task.id}`,
    history: (await orchestra.client.workflow.getHandle(taskWorkflowId(task.id)).fetchHistory()).events?.map((event) => [
      event.activityTaskFailedEventAttributes?.failure,
      event.workflowExecutionFailedEventAttributes?.failure,
    ]),
  };
  expect(JSON.stringify(shown)).toContain('the log has the details');
  expect(JSON.stringify(shown)).not.toContain('swordfish');
  const entries = logged.filter((entry) => entry['task_id'] === task.id && JSON.stringify(entry['err'] ?? null).includes('swordfish'));
  expect(entries).toHaveLength(3);
  expect(entries[0]).toMatchObject({
    step: 'only',
    step_type: 'act',
    workflow_id: taskWorkflowId(task.id),
    err: { stack: expect.stringContaining('steps.test.ts') },
  });
});

test('what a step used adds up over its records, its failed attempts and all steps of the task [MODEL-10, TASK-05]', async () => {
  const use = ({ record }: StepContext, inferenceTimeSeconds: number, memoryUsedGb: number) =>
    record({ modelName: 'tiny:latest', modelDigest: 'sha256:1', inferenceTimeSeconds, memoryUsedGb, metrics: { prompt_tokens: 10, phase: 'read' } });
  behaviours.set('first', ({ stepAttempt }, context) => {
    use(context, 0.5, 1);
    if (stepAttempt === 1) throw new StepFailure('step_failed', 'once', { retryable: true });
    use(context, 0.25, 3);
    return { text: 'first' };
  });
  behaviours.set('second', (_call, context) => {
    use(context, 2, 2);
    return {};
  });
  const task = await runToEnd('two');
  expect(task.resource_usage).toEqual({ model_name: 'tiny:latest', inference_time_seconds: 3.25, memory_used_gb: 3 });
  expect((await executionsOf(task)).map(({ step, status, metrics }) => [step, status, metrics['prompt_tokens'], metrics['inference_time_seconds']])).toEqual([
    ['first', 'failed', 10, 0.5],
    ['first', 'completed', 20, 0.75],
    ['second', 'completed', 10, 2],
  ]);
});

test('a task whose steps used no model has no usage [TASK-05]', async () => {
  expect((await runToEnd('one')).resource_usage).toBeNull();
});

describe('a step whose condition', () => {
  test.each([
    { wanted: false, called: ['after'], seen: {} },
    { wanted: true, called: ['maybe', 'after'], seen: { text: 'ran' } },
  ])('over parameters is $wanted runs only when it is true; skipped, its output is empty', async ({ wanted, called, seen }) => {
    const task = await runToEnd('when-parameter', { wanted });
    expect(task).toMatchObject({ status: 'completed', result: { steps: { maybe: seen } } });
    expect(stepsCalled(task)).toEqual(called);
    expect(callsOf(task).at(-1)?.input).toEqual({ seen });
  });

  test.each([
    { go: false, called: ['first', 'after'], seen: {} },
    { go: true, called: ['first', 'maybe', 'after'], seen: { text: 'ran' } },
  ])('over an earlier output is $go runs only when it is true; skipped, its output is empty', async ({ go, called, seen }) => {
    behaviours.set('first', () => ({ go }));
    const task = await runToEnd('when-output');
    expect(task).toMatchObject({ status: 'completed', result: { steps: { maybe: seen } } });
    expect(stepsCalled(task)).toEqual(called);
    expect(callsOf(task).at(-1)?.input).toEqual({ seen });
  });

  test('cannot be evaluated fails the task with template_error', async () => {
    behaviours.set('first', () => ({ other: true }));
    const task = await runToEnd('when-output');
    expect(task).toMatchObject({ status: 'failed', error: { code: 'template_error', step: 'maybe' } });
    expect(stepsCalled(task)).toEqual(['first']);
  });

  test('is false like every other of the plan leaves a completed task with empty outputs and no execution', async () => {
    const task = await runToEnd('all-skipped');
    expect(task).toMatchObject({ status: 'completed', error: null, result: { steps: { first: {}, second: {} } } });
    expect(await executionsOf(task)).toHaveLength(0);
  });
});

describe('a step that fails', () => {
  const fail = () => {
    throw new StepFailure('step_failed', 'on purpose', { retryable: true });
  };

  test('is skipped after one attempt with on_failure: skip, and the plan goes on with an empty output [DUR-09]', async () => {
    behaviours.set('extra', fail);
    const task = await runToEnd('may-fail');
    expect(task).toMatchObject({ status: 'completed', error: null, result: { steps: { extra: {} } } });
    expect(stepsCalled(task)).toEqual(['extra', 'after']);
    expect(callsOf(task).at(-1)?.input).toEqual({ seen: {} });
  });

  test('fails the task at its first attempt with on_failure: fail_workflow [DUR-09]', async () => {
    behaviours.set('only', fail);
    const task = await runToEnd('must-not-fail');
    expect(task).toMatchObject({ status: 'failed', error: { code: 'step_failed', message: 'on purpose', attempt: 1 } });
    expect(callsOf(task)).toHaveLength(1);
  });
});

test('running and queued tasks keep the template they were submitted with; the next task has the new one [TPL-23]', async () => {
  const release = hold('first', () => ({ text: 'unchanged' }));
  const running = await orchestra.submit('edition', {});
  await eventually(() => callsOf(running).length === 1);
  const queued = await orchestra.submit('edition', {});
  await eventually(async () => (await orchestra.sql`select 1 from line where task_id = ${queued.id} and state = 'waiting'`).length === 1);
  await orchestra.changeTemplates({ edition: edition('second edition') });
  const later = await orchestra.submit('edition', {});
  release();
  expect((await orchestra.finished(running.id)).result).toMatchObject({ text: 'first edition, unchanged' });
  expect((await orchestra.finished(queued.id)).result).toMatchObject({ text: 'first edition, unchanged' });
  expect((await orchestra.finished(later.id)).result).toMatchObject({ text: 'second edition, unchanged' });
  const hashes = await orchestra.sql`select plan ->> 'templateHash' as hash from tasks where id in ${orchestra.sql([running.id, queued.id, later.id])}`;
  expect(new Set(hashes.map((row) => row['hash'])).size).toBe(2);
});

describe('a step type that the registry has and nobody else knows [TPL-24]', () => {
  test('runs by its own rules, and its output feeds the next step', async () => {
    const task = await runToEnd('repeat', { times: 3 });
    expect(task).toMatchObject({ status: 'completed', result: { text: 'hohoho!', steps: { repeat_text: { repeated: 'hohoho' } } } });
    const rows = await orchestra.sql`select step_type from task_executions where task_id = ${task.id} and step = 'repeat_text'`;
    expect(rows.map((row) => row['step_type'])).toEqual(['repeat_text']);
  });

  test('refuses by its schema what the API is asked for', async () => {
    const answer = await orchestra.request('POST', '/api/v1/tasks', { template: 'repeat', parameters: { times: 4 } });
    expect(answer.status).toBe(422);
    expect(JSON.stringify(answer.body)).toContain('times');
  });

  test('has its fields and outputs checked where a template names them', async () => {
    const wrong = ['type: repeat_text, text: ho, often: 2', 'id: after, type: act, text: "{{ steps.repeat_text.echo }}"'];
    const { broken } = await orchestra.changeTemplates({ wrong: template('wrong', [], wrong) });
    const told = JSON.stringify(broken.map(({ faults }) => faults));
    expect(told).toContain('often');
    expect(told).toContain('it has repeated');
  });
});

test('a step whose row is taken back while it runs has its late result discarded, runs again and is committed once [DUR-07]', async () => {
  const release = hold('only', (_call, { stepAttempt }) => ({ stepAttempt, late: callsOfOnly() === 1 }));
  const task = await orchestra.submit('one', {});
  const callsOfOnly = () => callsOf(task).length;
  await eventually(() => callsOfOnly() === 1);
  const taken = await orchestra.sql`update line set state = 'void', cause = 'host_lost', ended_at = now() where task_id = ${task.id} and state = 'running'`;
  expect(taken.count).toBe(1);
  release();
  const ended = await orchestra.finished(task.id);
  expect(ended).toMatchObject({ status: 'completed', result: { late: false, stepAttempt: 1 } });
  expect(callsOfOnly()).toBe(2);
  expect((await executionsOf(task)).filter(({ status }) => status === 'completed')).toHaveLength(1);
  const rows = await orchestra.sql`select try, state from line where task_id = ${task.id} order by try`;
  expect(rows.map((row) => [row['try'], row['state']])).toEqual([
    [1, 'void'],
    [2, 'done'],
  ]);
});
