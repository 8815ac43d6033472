import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { TaskPreviewView } from '../../../contract/schemas/task-preview.js';
import { configurePools } from '../../../db/holds.js';
import { registerEngine, acquireHost, setHostReady } from '../../../db/leases.js';
import { upsertSeen } from '../../../db/models.js';
import { type ApiUnderTest, apiUnderTest } from './api-under-test.js';

let api: ApiUnderTest;
beforeAll(async () => {
  api = await apiUnderTest();
});
afterAll(async () => api.stop());
beforeEach(async () =>
  api.database.empty('tasks', 'queue_pauses', 'hosts', 'engines', 'models', 'holds', 'resource_shares', 'residency_spans', 'duration_stats'),
);

const preview = async (fields: object = {}, who = api.keys.ann): Promise<TaskPreviewView> => {
  const body = { template: 'ollama-inference', parameters: { model: 'llama3.2', prompt: 'hello' }, ...fields };
  const answer = await api.request(who, 'POST', '/api/v1/tasks?dry_run=true', body);
  expect(answer.status).toBe(200);
  return (await answer.json()) as TaskPreviewView;
};

/** Every step of a type took so long, give or take a tenth. */
const took = async (type: string, ms: number) =>
  api.database
    .sql`insert into duration_stats (group_id, samples, log_mean, log_variance, stretch_low, stretch_high) values (${JSON.stringify(['type', type])}, 100, ${Math.log(ms)}, 0.01, 1, 1)`;

/** A host that serves the model, with one slot. */
async function host(): Promise<void> {
  const { sql } = api.database;
  const epoch = await acquireHost(sql, { host: 'gpu-1', address: 'http://127.0.0.1:11434', parallel: 1 });
  await setHostReady(sql, 'gpu-1', epoch, true, {}, { modelsMax: 1, roomBytes: null, budgetBytes: null, spillBytes: 0 });
  await upsertSeen(sql, 'gpu-1', {
    installed: [{ name: 'llama3.2:latest', digest: 'sha256:1', sizeBytes: 1_000, details: {} }],
    loaded: [],
    usedAtMs: new Map(),
  });
  await sql`insert into residency (host, host_epoch, key, model, num_ctx, state, order_id) values ('gpu-1', ${epoch}, 'llama3.2:latest~ctx4096', 'llama3.2:latest', 4096, 'serving', gen_random_uuid())`;
  await sql`update hosts set lease_until = now() + interval '1 hour'`; // a slow machine is no silent host
}

/** Tasks whose step waits for the model. */
async function waiting(count: number, priority = 5): Promise<void> {
  for (let made = 0; made < count; made++) {
    const { id } = await api.task(api.keys.bob, { priority });
    await api.database.sql`delete from line where task_id = ${id}`; // the first one was granted with its submit
    await api.database.sql`
      insert into line (task_id, attempt, step, try, step_attempt, run_id, pool, key, level, exact, pos)
      select id, 1, 'ollama_generate', 1, 1, 'run', 'model', 'llama3.2:latest~ctx4096', priority_level, priority, pos from tasks where id = ${id}`;
  }
}
const inSeconds = (at: string | null) => (at === null ? null : (Date.parse(at) - Date.now()) / 1_000);

test('nothing is told of durations while nothing like the steps has run, and no start without a host [TASK-02, PRED-12]', async () => {
  expect(await preview()).toMatchObject({
    estimated_duration_seconds: null,
    estimated_duration_interval: null,
    estimated_start_time: null,
    estimated_completion_time: null,
    queue_position: null,
    waits_for: 'no_host',
    steps: [{ estimated_duration_seconds: null, estimated_duration_interval: null }],
  });
});

test('a dry run tells what the task and its steps take, by what like steps took [TASK-02, PRED-12]', async () => {
  const files = { template: 'file-processing', parameters: { input_files: ['a'], analysis_model: 'llama3.2', output_format: 'json' } };
  await took('read_files', 1_000);
  await took('ollama_analyze', 20_000);
  const partly = await preview(files);
  expect(partly.estimated_duration_seconds).toBeNull(); // one of its steps has never run
  expect(partly.steps.map((step) => step.estimated_duration_seconds !== null)).toEqual([true, true, false]);
  await took('format_output', 1_000);
  const { estimated_duration_seconds: seconds, estimated_duration_interval: interval, steps } = await preview(files);
  expect(seconds).toBeGreaterThan(19);
  expect(seconds).toBeLessThan(27);
  expect(interval?.[0]).toBeLessThan(seconds ?? 0);
  expect(interval?.[1]).toBeGreaterThan(seconds ?? 0);
  expect(steps[1]?.estimated_duration_seconds).toBeGreaterThan(15);
});

test('a dry run tells where the task would stand and when it would start and end, by its priority [TASK-02, PRED-12]', async () => {
  await host();
  await took('ollama_generate', 10_000);
  const alone = await preview();
  expect(inSeconds(alone.estimated_start_time)).toBeLessThan(1);
  expect(inSeconds(alone.estimated_completion_time)).toBeGreaterThan(7);
  await waiting(4);
  const last = await preview();
  const first = await preview({ priority: 10 });
  expect([last.queue_position, first.queue_position]).toEqual([5, 1]);
  expect(inSeconds(last.estimated_start_time)).toBeGreaterThan(25);
  expect(inSeconds(first.estimated_start_time)).toBeLessThan(2);
  expect(Date.parse(last.estimated_start_interval?.[0] ?? '')).toBeLessThan(Date.parse(last.estimated_start_time ?? ''));
  expect(Date.parse(last.estimated_completion_time ?? '')).toBeGreaterThan(Date.parse(last.estimated_start_time ?? ''));
  const { sql } = api.database;
  expect((await sql`select count(*)::integer as count from tasks`)[0]).toEqual({ count: 4 });
});

test('a dry run says what keeps the task: a pause, a lock, parts of a pool, a task before it [TASK-02, PRED-12, SCHED-23]', async () => {
  await host();
  await took('ollama_generate', 10_000);
  const { id } = await api.task(api.keys.ann);
  await api.database.sql`delete from line where task_id = ${id}`; // it was granted with its submit
  await api.database.sql`
    insert into line (task_id, attempt, step, try, step_attempt, run_id, pool, key, level, exact, pos)
    select id, 1, 'ollama_generate', 1, 1, 'run', 'model', 'llama3.2:latest~ctx4096', priority_level, priority, pos from tasks where id = ${id}`;
  const after = await preview({ depends_on: [id], priority: 10 });
  expect(after.waits_for).toBe('waiting_dependency');
  expect(inSeconds(after.estimated_start_time)).toBeGreaterThan(7);
  const { sql } = api.database;
  await sql`update line set locks = array['deploy'] where task_id = ${id}`;
  await sql`insert into holds (name, task_id, attempt) values ('deploy', ${id}, 1)`;
  const locked = await preview({ resource_requirements: { locks: ['deploy'] }, priority: 10 });
  expect(locked.waits_for).toBe('waiting_lock');
  expect(inSeconds(locked.estimated_start_time)).toBeGreaterThan(7);
  expect(inSeconds((await preview({ resource_requirements: { locks: ['other'] }, priority: 10 })).estimated_start_time)).toBeLessThan(2);
  await configurePools(sql, { gpu: 2 });
  await sql`insert into allocations (task_id, attempt, pool, amount) values (${id}, 1, 'gpu', 2)`;
  const large = await preview({ resource_requirements: { gpu_count: 1 }, priority: 10 });
  expect(large.waits_for).toBe('waiting_resource');
  expect(inSeconds(large.estimated_start_time)).toBeGreaterThan(7);
  expect((await api.request(api.keys.admin, 'POST', '/api/v1/queue/pauses', {})).status).toBe(200);
  expect(await preview()).toMatchObject({ waits_for: 'paused', estimated_start_time: null });
});

test('steps without a model start at once where an engine has a slot [TASK-02, PRED-12]', async () => {
  await registerEngine(api.database.sql, { id: 'engine-1', slots: 2 });
  await api.database.sql`update engines set lease_until = now() + interval '1 hour'`;
  const files = { template: 'patterned', parameters: { code: 'ABC' } };
  const { estimated_start_time: at, waits_for: why, estimated_completion_time: end } = await preview(files);
  expect(inSeconds(at)).toBeLessThan(1);
  expect(why).toBe('waiting_slot');
  expect(end).toBeNull(); // nobody knows what it takes
});
