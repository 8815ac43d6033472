import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createGates, gateTemplates } from '../support/gate-step.js';
import { type Installation, startInstallation } from '../support/installation.js';
import { eventually, temporalAddress } from '../support/servers.js';

const main = path.join(import.meta.dirname, '../../mains/state.ts');
const gates = createGates();
let folder: string;
let first: Installation;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'state-'));
  first = await startInstallation({ steps: [gates.step], templates: gateTemplates });
});
afterAll(async () => {
  await first.stop();
  await rm(folder, { recursive: true, force: true });
});

/** `orchestra state` as a process of its own, for an installation's database. @param input file that is its standard input */
async function state(installation: Installation, call: string, input?: string): Promise<{ code: number; out: string; err: string }> {
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', '--input-type=module', '-e', `const state = await import(${JSON.stringify(main)}); await state.${call};`],
    {
      env: {
        ...process.env,
        ORCHESTRA_HOME: installation.config.home,
        DATABASE_URL: installation.database.url,
        TEMPORAL_ADDRESS: temporalAddress(),
        TEMPORAL_NAMESPACE: installation.config.temporal.namespace,
      },
      stdio: ['pipe', 'pipe', 'pipe'],
    },
  );
  child.stdin.end(input === undefined ? '' : await readFile(input));
  let [out, err] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => void (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => void (err += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number];
  return { code, out, err };
}

/** Everything of the tasks, in an order of its own, without what an installation numbers anew. */
async function tasksOf({ sql }: Installation) {
  return {
    tasks:
      await sql`select id, name, priority, status, plan, parameters, request, metadata, attempt, pos, result, created_at, completed_at from tasks order by id`,
    executions: await sql`select id, task_id, step, status, output, error, metrics, started_at from task_executions order by id`,
    dependencies: await sql`select parent_task_id, child_task_id from task_dependencies order by 1, 2`,
    events: await sql`select task_id, kind, data, at from task_events order by id`,
    keys: await sql`select id, user_id, hash from api_keys where id in (select id from api_keys order by created_at limit 1)`,
  };
}

test('an exported state is a whole one: in another installation tasks have the same results, and those under way go on after their last recorded step [DUR-04]', async () => {
  gates.open('a');
  const done = await first.submit('gate-one', { gate: 'a' }, { metadata: { text: 'quotes " and\nlines', nul: 'é\u2028' }, name: 'done' });
  await first.finished(done.id);
  const under = await first.submit('gate-two', { first: 'a', second: 'closed' });
  await eventually(() => gates.arrived.includes('closed'));
  const waits = await first.submit('gate-one', { gate: 'a' }, { depends_on: [under.id], priority: 9 });
  const file = path.join(folder, 'state.json');
  expect(await state(first, `runStateExport(${JSON.stringify(file)})`)).toMatchObject({ code: 0 });
  expect(JSON.parse(await readFile(file, 'utf8'))).toMatchObject({ format: 'ai-task-orchestra/state', tables: { tasks: { length: 3 } } });
  const before = await tasksOf(first);

  const later = createGates();
  const second = await startInstallation({ steps: [later.step], templates: gateTemplates });
  try {
    later.open('a');
    const cut = path.join(folder, 'cut.json');
    await state(first, `runStateExport(${JSON.stringify(cut)})`);
    await truncate(cut, (await readFile(cut)).length - 3);
    const refused = await state(second, `runStateImport(${JSON.stringify(cut)})`);
    expect(refused.code).toBe(1);
    expect(refused.err).toContain('the document ends too early');
    expect(await second.sql`select id from tasks`).toHaveLength(0);

    const missing = await state(second, `runStateImport(${JSON.stringify(path.join(folder, 'missing.json'))})`);
    expect(missing).toMatchObject({ code: 3, out: '', err: expect.stringContaining('There is no') });
    const empty = await state(second, 'runStateImport()');
    expect(empty).toMatchObject({ code: 0 });
    expect(empty.out).toContain('the state is empty');

    expect(await state(second, "runStateImport('-')", file)).toMatchObject({ code: 0, err: '' });
    const after = await tasksOf(second);
    expect(after.dependencies).toEqual(before.dependencies);
    expect(after.tasks.find(({ id }) => id === done.id)).toEqual(before.tasks.find(({ id }) => id === done.id));
    expect(after.executions).toEqual(expect.arrayContaining([...before.executions]));
    expect(after.events.slice(0, before.events.length)).toEqual(before.events);
    const old = first.sql<{ id: string }[]>`select id from api_keys`;
    expect((await second.sql<{ id: string }[]>`select id from api_keys`).map(({ id }) => id)).toEqual(expect.arrayContaining((await old).map(({ id }) => id)));

    await eventually(() => later.arrived.includes('closed'));
    expect(later.arrived).toEqual(['closed']);
    later.open('closed');
    expect(await second.finished(under.id)).toMatchObject({ status: 'completed', result: { text: 'after a', steps: { one: { name: 'a' } } } });
    expect(await second.finished(waits.id)).toMatchObject({ status: 'completed', priority: 9 });
    const fresh = await second.submit('gate-one', { gate: 'a' });
    expect(await second.finished(fresh.id)).toMatchObject({ status: 'completed' });

    const again = await state(second, `runStateImport(${JSON.stringify(file)})`);
    expect(again.code).toBe(1);
    expect(again.err).toContain('has tasks already');
  } finally {
    await second.stop();
    gates.open('closed');
  }
});

test('tasks that only Temporal still has are rebuilt: ended ones with their status, running ones as their next attempt [DUR-05]', async () => {
  gates.open('a');
  gates.failNext('fails', 3, { retryable: false });
  const done = await first.submit('gate-one', { gate: 'a' }, { name: 'a name of its own', priority: 7 });
  const failed = await first.submit('gate-one', { gate: 'fails' });
  const cancelled = await first.submit('gate-one', { gate: 'never' });
  const running = await first.submit('gate-one', { gate: 'later' });
  await first.finished(done.id);
  await first.finished(failed.id);
  await eventually(() => gates.arrived.includes('never') && gates.arrived.includes('later'));
  await first.request('DELETE', `/api/v1/tasks/${cancelled.id}`);
  await first.finished(cancelled.id);
  await eventually(async () => {
    const { status } = await first.client.workflow.getHandle(`task-${cancelled.id}`).describe();
    return status.name === 'CANCELLED';
  });
  const lost = [done.id, failed.id, cancelled.id, running.id];
  await first.sql`delete from tasks where id = any(${lost}::uuid[])`;

  // The list of runs lags behind the runs.
  await eventually(
    async () => {
      const rebuilt = await state(first, 'runStateRebuild()');
      expect(rebuilt).toMatchObject({ code: 0, err: '' });
      return (await first.sql`select 1 from tasks where id = any(${lost}::uuid[])`).length === lost.length;
    },
    { timeoutMs: 50_000 },
  );
  expect(await first.task(done.id)).toMatchObject({ status: 'completed', name: 'a name of its own', priority: 7, parameters: { gate: 'a' }, result: null });
  expect(await first.task(failed.id)).toMatchObject({ status: 'failed', error: { code: 'gate_failed', message: expect.stringContaining('told to fail') } });
  expect(await first.task(cancelled.id)).toMatchObject({ status: 'cancelled' });
  gates.open('later');
  expect(await first.finished(running.id)).toMatchObject({ status: 'completed', attempt: 2, result: { name: 'later' } });
  const again = await state(first, 'runStateRebuild()');
  expect(again.out).toContain('Every task that Temporal has is in the database.');
});
