import { randomUUID } from 'node:crypto';
import { pino } from 'pino';
import { expect, onTestFinished, test } from 'vitest';
import { taskWorkflowId } from '../../../contract/ids.js';
import type { TaskView } from '../../../contract/schemas/task.js';
import { startAnswerLossProxy } from '../../support/answer-loss-proxy.js';
import { startFaultProxy } from '../../support/fault-proxy.js';
import { createGates, gateTemplates } from '../../support/gate-step.js';
import { type Installation, type InstallationOptions, startInstallation } from '../../support/installation.js';
import { leftBehind } from '../../support/left-behind.js';
import { eventually, postgresAddress, temporalAddress } from '../../support/servers.js';

const templates = {
  ...gateTemplates,
  note: [
    'name: note',
    'description: Store a token',
    'parameters:',
    '  - { name: token, type: string, required: true }',
    'steps:',
    '  - { type: format_output, format: text, data: "{{token}}" }',
    '  - { type: store_result, path: note.txt }',
  ].join('\n'),
};
const gates = createGates();

async function install(options: InstallationOptions): Promise<Installation> {
  const orchestra = await startInstallation({ templates, steps: [gates.step], ...options });
  onTestFinished(() => orchestra.stop());
  return orchestra;
}

const nothingIsLeft = (orchestra: Installation) =>
  eventually(async () => {
    expect(await leftBehind(orchestra.sql, orchestra.config.files.workspacesRoot)).toEqual([]);
    return true;
  });

test('each move of a task is made once although its answer is lost, and a finished step is not run again [fault-19, DUR-07]', async () => {
  const proxy = await startAnswerLossProxy(postgresAddress());
  onTestFinished(() => proxy.close());
  const orchestra = await install({ through: { database: proxy.through } });
  gates.failNext('lost one', 1);
  gates.open('lost one');
  gates.open('lost two');
  const moves = ['line_enter', 'line_claim', 'line_fail', 'line_finish', 'line_close'];
  for (const move of moves) proxy.loseNext(move);
  const task = await orchestra.finished((await orchestra.submit('gate-two', { first: 'lost one', second: 'lost two' })).id, 60_000);
  expect(task).toMatchObject({ status: 'completed', result: { text: 'after lost one' } });
  // A completed task was closed by its last step; one that fails is closed by a move of its own.
  gates.failNext('lost three', 1, { retryable: false });
  expect(await orchestra.finished((await orchestra.submit('gate-one', { gate: 'lost three' })).id, 60_000)).toMatchObject({
    status: 'failed',
    error: { code: 'gate_failed' },
  });
  expect([...proxy.lost].sort()).toEqual([...moves].sort());
  const executions = await orchestra.sql`select step, status from task_executions where task_id = ${task.id} and status <> 'void' order by started_at`;
  expect(executions.map((row) => [row['step'], row['status']])).toEqual([
    ['one', 'failed'],
    ['one', 'completed'],
    ['two', 'completed'],
  ]);
  expect(gates.arrived.filter((name) => name === 'lost two')).toHaveLength(1);
  await nothingIsLeft(orchestra);
}, 120_000);

test('while PostgreSQL comes and goes for a minute, each request is answered or told to come back, and every accepted task is done once [fault-18]', async () => {
  const proxy = await startFaultProxy(postgresAddress());
  onTestFinished(() => proxy.close());
  const orchestra = await install({
    through: {
      database(url) {
        const through = new URL(url);
        through.port = String(proxy.port);
        return through.href;
      },
    },
  });
  const until = Date.now() + 60_000;
  const accepted = new Map<string, string>();
  let putOff = 0;

  const submitting = (async () => {
    for (let number = 0; Date.now() < until; number += 1) {
      const token = `token ${number}`;
      const key = randomUUID();
      const id = await eventually(
        async () => {
          const answer = await orchestra.request('POST', '/api/v1/tasks', { template: 'note', parameters: { token } }, { 'Idempotency-Key': key });
          if (answer.status === 503 && answer.headers.get('retry-after') !== null) {
            putOff += 1;
            return undefined;
          }
          expect([200, 201]).toContain(answer.status);
          return (answer.body as TaskView).id;
        },
        { timeoutMs: 60_000 },
      );
      accepted.set(id, token);
      await new Promise((resolve) => setTimeout(resolve, 400)); // the pace of the load
    }
  })();
  while (Date.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, 4_000));
    proxy.fault({ kind: 'refuse' });
    proxy.cutAll();
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    proxy.heal();
  }
  await submitting;

  expect(putOff).toBeGreaterThan(0);
  for (const [id, token] of accepted)
    expect(await orchestra.finished(id, 60_000)).toMatchObject({ status: 'completed', result: { steps: { format_output: { text: token } } } });
  expect(Number((await orchestra.sql`select count(*) from tasks`)[0]?.['count'])).toBe(accepted.size);
  await nothingIsLeft(orchestra);
}, 180_000);

test('while Temporal cannot be reached tasks are accepted and wait, one under way is not lost, and all end when it is back [fault-13]', async () => {
  const [host = '', port] = temporalAddress().split(':');
  const proxy = await startFaultProxy({ host, port: Number(port) });
  onTestFinished(() => proxy.close());
  const orchestra = await install({ through: { temporal: `127.0.0.1:${proxy.port}` } });
  const started = await orchestra.submit('gate-two', { first: 'cut one', second: 'cut two' });
  await eventually(() => gates.arrived.includes('cut one'));
  proxy.fault({ kind: 'refuse' });
  proxy.cutAll();
  const waiting = [];
  for (const token of ['a', 'b', 'c', 'd', 'e']) waiting.push(await orchestra.submit('note', { token }));
  gates.open('cut one');
  gates.open('cut two');
  await eventually(async () => (await orchestra.sql`select 1 from task_executions where task_id = ${started.id} and status = 'completed'`).length === 1);
  const { body } = await orchestra.request('GET', '/api/v1/health');
  expect(body).toMatchObject({
    status: 'degraded',
    checks: { temporal_connection: { status: 'down' }, database_connection: { status: 'ok' }, engine: { status: 'ok' } },
  });
  proxy.heal();
  for (const { id } of [started, ...waiting]) expect(await orchestra.finished(id, 60_000)).toMatchObject({ status: 'completed' });
  const runs = await orchestra.sql`select cardinality(runs) as runs from tasks`;
  expect(runs.map((row) => row['runs'])).toEqual(runs.map(() => 1));
  await nothingIsLeft(orchestra);
}, 120_000);

test('what went apart while no engine ran is put right when one starts, and each repair is logged with its task [DUR-05]', async () => {
  const lines: Record<string, unknown>[] = [];
  const log = pino({ level: 'warn' }, { write: (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>) });
  const orchestra = await install({ log });
  const terminated = await orchestra.submit('gate-one', { gate: 'apart' });
  const deleted = await orchestra.submit('gate-two', { first: 'apart', second: 'later' });
  await eventually(() => gates.arrived.filter((name) => name === 'apart').length === 2);
  await orchestra.engine.stop();
  // A run that somebody ends, a task whose start is lost with its outbox entry, and a row that says less than the truth.
  await orchestra.client.workflow.getHandle(taskWorkflowId(terminated.id)).terminate('while no engine ran');
  const neverStarted = await orchestra.submit('note', { token: 'x' });
  await orchestra.services.settled();
  await orchestra.client.workflow.getHandle(taskWorkflowId(neverStarted.id)).terminate('never looked at');
  await orchestra.sql`delete from outbox`;
  await orchestra.sql`update tasks set status = 'queued', started_at = null where id = ${deleted.id}`;
  gates.open('apart');
  gates.open('later');
  await orchestra.addEngine();
  expect(await orchestra.finished(terminated.id, 60_000)).toMatchObject({ status: 'failed', error: { code: 'ended_outside' } });
  expect(await orchestra.finished(neverStarted.id, 60_000)).toMatchObject({ status: 'completed' });
  expect(await orchestra.finished(deleted.id, 60_000)).toMatchObject({ status: 'completed', started_at: expect.any(String) });
  const repaired = lines.filter((line) => String(line['msg']).startsWith('a task ')).map((line) => line['task_id']);
  expect(repaired).toEqual(expect.arrayContaining([terminated.id, neverStarted.id]));
  await nothingIsLeft(orchestra);
}, 120_000);
