import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { createOllamaBackend, defaultOllamaTimeouts } from '../../activities/backends/ollama.js';
import { defineStep, type StepDefinition } from '../../activities/steps/define-step.js';
import { createTinyModel, slowToLoadShape, tinyShape } from '../../activities/backends/server/tiny-model.js';
import { defaultRegistries } from '../../contract/model-name.js';
import type { QueueView } from '../../contract/schemas/queue.js';
import { testLog } from '../support/host-parts.js';
import { type Installation, startInstallation } from '../support/installation.js';
import { type OwnOllama, startOwnOllama } from '../support/own-ollama.js';
import { eventually } from '../support/servers.js';

const [one, two, endless, large] = ['residency-one:latest', 'residency-two:latest', 'residency-endless:latest', 'residency-large:latest'];
const keyOf = (model: string) => `${model}~ctx512`;
const templates = {
  ask: [
    'name: ask',
    'parameters:',
    '  - { name: model, type: string, required: true }',
    'steps:',
    '  - { type: ollama_generate, model: "{{model}}", prompt: hello, options: { num_ctx: 512, num_predict: 4 } }',
  ].join('\n'),
};

let ollama: OwnOllama;
let orchestra: Installation | undefined;

beforeAll(async () => {
  ollama = await startOwnOllama({ OLLAMA_MAX_LOADED_MODELS: '3' });
  for (const [index, name] of [one, two, endless].entries())
    await createTinyModel(ollama.url, name, { ...tinyShape, endless: name === endless, seed: index + 1 });
  await createTinyModel(ollama.url, large, { ...slowToLoadShape, width: 512, blocks: 8, feedForward: 1024, seed: 9 });
}, 180_000);
afterAll(() => ollama?.stop());
afterEach(async () => {
  await orchestra?.stop();
  orchestra = undefined;
  const backend = backendOf();
  const signal = AbortSignal.timeout(20_000);
  for (const { name } of await backend.loaded(signal)) await backend.unload(name, signal);
});

const backendOf = () =>
  createOllamaBackend({ address: ollama.url, registries: defaultRegistries, allowPull: false, timeouts: defaultOllamaTimeouts, log: testLog });

async function start(env: Readonly<Record<string, string>>): Promise<Installation> {
  orchestra = await startInstallation({ models: true, templates, env, through: { ollama: ollama.url } });
  return orchestra;
}

/** Nothing is granted until `release` is called. */
async function paused({ sql }: Installation) {
  await sql`insert into queue_pauses (scope) values ('queue')`;
  return {
    /** @param waiting steps that have to be in the line by then */
    async release(waiting: number) {
      await eventually(async () => (await sql`select 1 from line where state = 'waiting'`).length === waiting);
      await sql`delete from queue_pauses`;
      await sql`select pg_notify('line', '')`;
    },
  };
}

async function submitAll(to: Installation, models: readonly string[], priorities: readonly number[] = []): Promise<string[]> {
  const ids: string[] = [];
  for (const [index, model] of models.entries()) ids.push((await to.submit('ask', { model }, { priority: priorities[index] ?? 5 })).id);
  return ids;
}

/** The tasks in the order in which their steps began. */
async function started({ sql }: Installation): Promise<string[]> {
  return (await sql<{ id: string }[]>`select task_id as id from line where started_at is not null order by started_at`).map(({ id }) => id);
}

const loads = async ({ sql }: Installation) =>
  sql<
    { key: string; unload: string[] }[]
  >`select load_key as key, unload from residency_orders where load_key is not null and state = 'done' order by created_at, ended_at`;

const residents = async ({ sql }: Installation) =>
  (await sql<{ key: string }[]>`select key from residency where state = 'serving' order by key`).map(({ key }) => key);

async function allDone(of: Installation, ids: readonly string[]): Promise<void> {
  for (const id of ids) expect(await of.finished(id, 120_000)).toMatchObject({ status: 'completed' });
}

describe('one model at a time', () => {
  test('a queue of A, B, A, B and so on does not thrash [MODEL-07]', async () => {
    const to = await start({ MODEL_MAX_LOADED: '1' });
    const { release } = await paused(to);
    const ids = await submitAll(
      to,
      Array.from({ length: 12 }, (_, index) => (index % 2 === 0 ? one : two)),
    );
    await release(12);
    await allDone(to, ids);
    expect((await loads(to)).length).toBeLessThan(6);
    // A model that steps still waited for went only after it had served for what its load bought.
    const gone = await to.sql<{ served: number; quantum: number }[]>`
      select (t ->> 'served_ms')::float8 as served, (t ->> 'quantum_ms')::float8 as quantum from orchestration_decisions, jsonb_array_elements(input_data -> 'terms') t
      where decision_type = 'residency'`;
    expect(gone.length).toBeGreaterThan(0);
    for (const { served, quantum } of gone) expect(served).toBeGreaterThanOrEqual(quantum);
    expect((await loads(to))[1]).toEqual({ key: keyOf(two), unload: [keyOf(one)] });
    const [decision] = await to.sql<{ terms: unknown; reason: string }[]>`
      select input_data -> 'terms' as terms, output_data ->> 'reason' as reason from orchestration_decisions
      where decision_type = 'residency' and input_data -> 'terms' <> '[]' limit 1`;
    expect(decision).toMatchObject({
      reason: expect.stringContaining(`instead of ${keyOf(one)}`),
      terms: [{ key: keyOf(one), served_ms: expect.any(Number) }],
    });
    const [cost] = await to.sql`select load_ms, bytes::float8 as bytes, samples from key_costs where key = ${keyOf(one)}`;
    expect(cost).toMatchObject({ load_ms: expect.any(Number), bytes: expect.any(Number), samples: 1 });
  }, 180_000);

  test('within a level the tasks of the loaded model go first [SCHED-02]', async () => {
    const to = await start({ MODEL_MAX_LOADED: '1' });
    await allDone(to, await submitAll(to, [one]));
    const { release } = await paused(to);
    const ids = await submitAll(to, [two, one, one]);
    await release(3);
    await allDone(to, ids);
    expect((await started(to)).slice(1)).toEqual([ids[1], ids[2], ids[0]]);
  }, 120_000);

  test('fifty equal tasks start in the order in which they came [SCHED-03]', async () => {
    const to = await start({ MODEL_MAX_LOADED: '1' });
    const { release } = await paused(to);
    const ids = await submitAll(
      to,
      Array.from({ length: 50 }, () => one),
    );
    await release(50);
    await allDone(to, ids);
    expect(await started(to)).toEqual(ids);
  }, 180_000);

  test('shuffled priorities start in their order, the highest first [SCHED-01]', async () => {
    const to = await start({ MODEL_MAX_LOADED: '1' });
    const { release } = await paused(to);
    const priorities = [3, 9, 1, 7, 10, 2, 8, 5, 4, 6];
    const ids = await submitAll(
      to,
      priorities.map(() => one),
      priorities,
    );
    await release(10);
    await allDone(to, ids);
    const order = (await started(to)).map((id) => priorities[ids.indexOf(id)]);
    expect(order).toEqual([10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
  }, 120_000);

  test('a model that is asked for without end keeps another waiting for no longer than its quantum [fault-33]', async () => {
    const to = await start({ MODEL_MAX_LOADED: '1' });
    const busy = await submitAll(
      to,
      Array.from({ length: 10 }, () => one),
    );
    const [rare = ''] = await submitAll(to, [two]);
    const waiting = async () => (await to.sql`select 1 from line where state = 'waiting' and key = ${keyOf(one)}`).length;
    while ((await to.task(rare)).status === 'queued') {
      const lacking = Math.max(0, 10 - (await waiting()));
      busy.push(
        ...(await submitAll(
          to,
          Array.from({ length: lacking }, () => one),
        )),
      );
    }
    expect(await waiting()).toBeGreaterThan(0);
    await allDone(to, [rare, ...busy]);
    // Of those that came after it only as many went first as the quantum of their model allowed, and the one that ran when it was used up.
    const [passed] = await to.sql<{ tasks: number; service: number; longest: number }[]>`
      select count(*)::integer as tasks, coalesce(sum(l.ms), 0)::float8 as service, coalesce(max(l.ms), 0)::float8 as longest
      from (select task_id, pos, key, started_at, extract(epoch from ended_at - started_at) * 1000 as ms from line where state = 'done') l
      join line r on r.task_id = ${rare} and r.state = 'done' where l.key = ${keyOf(one)} and l.pos > r.pos and l.started_at < r.started_at`;
    const [gone] = await to.sql<{ quantum: number }[]>`
      select (t ->> 'quantum_ms')::float8 as quantum from orchestration_decisions, jsonb_array_elements(input_data -> 'terms') t
      where decision_type = 'residency' and t ->> 'key' = ${keyOf(one)} order by created_at limit 1`;
    expect(gone).toBeDefined();
    expect(passed?.service).toBeLessThanOrEqual((gone?.quantum ?? 0) + (passed?.longest ?? 0));
    expect(busy.length).toBeGreaterThan(passed?.tasks ?? 0);
  }, 180_000);

  test('a task with a higher priority goes ahead of all that has not started, and interrupts nothing [SCHED-09]', async () => {
    const { to, id: running, open } = await startHeld(endless, { MODEL_MAX_LOADED: '1' });
    const { release } = await paused(to);
    const waiting = await submitAll(to, [endless, endless, endless]);
    const [urgent] = await submitAll(to, [endless], [8]);
    await release(4);
    open();
    await allDone(to, [running, ...waiting, urgent ?? '']);
    expect(await started(to)).toEqual([running, urgent, ...waiting]);
    expect(await to.sql`select 1 from line where state = 'void'`).toEqual([]);
  }, 120_000);
});

describe('several models at a time', () => {
  test('those that fit stay beside each other, and none is loaded twice', async () => {
    const to = await start({ MODEL_MAX_LOADED: '3' });
    await allDone(to, await submitAll(to, [one, two, one, two, endless, one]));
    expect(await residents(to)).toEqual([endless, one, two].map(keyOf).toSorted());
    expect((await loads(to)).map(({ unload }) => unload)).toEqual([[], [], []]);
  }, 120_000);

  test('where the budget is small, a model goes before one is loaded that would not fit, and one that never fits ends at once [MODEL-09]', async () => {
    const signal = AbortSignal.timeout(60_000);
    const backend = backendOf();
    const bytes: number[] = [];
    for (const name of [one, two]) {
      bytes.push((await backend.load({ name, numCtx: 512 }, 60_000, signal)).memoryBytes);
      await backend.unload(name, signal);
    }
    const sizeBytes = (await backend.installed(signal)).find(({ name }) => name === large)?.sizeBytes ?? 0;
    const budget = Math.min(sizeBytes, (bytes[0] ?? 0) + Math.floor((bytes[1] ?? 0) / 2));
    expect(budget).toBeGreaterThan(Math.max(...bytes));
    const to = await start({ MODEL_MAX_LOADED: '3', MODEL_MEMORY_BUDGET: String(budget) });

    const refused = await to.finished((await to.submit('ask', { model: large })).id, 60_000);
    expect(refused).toMatchObject({ status: 'failed', error: { code: 'model_out_of_memory', message: expect.stringContaining(large) } });
    expect(await loads(to)).toEqual([]);

    await allDone(to, await submitAll(to, [one])); // learns what each takes
    await allDone(to, await submitAll(to, [two]));
    const before = (await loads(to)).length;
    for (const name of [one, two, one]) await allDone(to, await submitAll(to, [name]));
    const later = (await loads(to)).slice(before);
    expect(later.length).toBeGreaterThanOrEqual(2);
    for (const load of later) expect(load.unload).toEqual([load.key === keyOf(one) ? keyOf(two) : keyOf(one)]);
    expect((await residents(to)).length).toBe(1);
  }, 180_000);

  test('a server that keeps fewer models than was thought is believed, and nothing is loaded in circles', async () => {
    const small = await startOwnOllama({ OLLAMA_MAX_LOADED_MODELS: '1' });
    try {
      for (const [index, name] of [one, two].entries()) await createTinyModel(small.url, name, { ...tinyShape, seed: index + 1 });
      orchestra = await startInstallation({ models: true, templates, env: { MODEL_MAX_LOADED: '3' }, through: { ollama: small.url } });
      const to = orchestra;
      await allDone(to, await submitAll(to, [one, two]));
      await eventually(async () => (await to.sql`select 1 from hosts where models_max = 1`).length === 1, { timeoutMs: 30_000 });
      await eventually(async () => (await residents(to)).length === 1, { timeoutMs: 30_000 });
      await allDone(to, await submitAll(to, [one, two]));
      expect(await residents(to)).toHaveLength(1);
    } finally {
      await orchestra?.stop();
      orchestra = undefined;
      await small.stop();
    }
  }, 180_000);
});

/** A step on a model that lasts until the test lets it go, and its template. */
function modelGate(model: string): { step: StepDefinition; template: string; open: () => void } {
  let open: () => void = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  const step = defineStep({
    type: 'model_gate',
    summary: 'Wait on a model until the test lets it go.',
    input: z.object({ model: z.string(), options: z.object({ num_ctx: z.number() }) }),
    output: z.object({}),
    policy: { pool: 'model', startToCloseMs: 180_000, attempts: 1 },
    example: '- { type: model_gate, model: "m", options: { num_ctx: 512 } }',
    async run() {
      await opened;
      return {};
    },
  }) as unknown as StepDefinition;
  return { step, template: `name: hold\nsteps:\n  - { type: model_gate, model: "${model}", options: { num_ctx: 512 } }`, open };
}

/** An installation with such a step under way. */
async function startHeld(model: string, env: Readonly<Record<string, string>>, before: (to: Installation) => Promise<void> = async () => {}) {
  const gate = modelGate(model);
  const to = await startInstallation({
    models: true,
    steps: [gate.step],
    templates: { ...templates, hold: gate.template },
    env,
    through: { ollama: ollama.url },
  });
  orchestra = to;
  await before(to);
  const { id } = await to.submit('hold', {});
  await eventually(async () => (await to.sql`select 1 from line where task_id = ${id} and state = 'running'`).length === 1, { timeoutMs: 60_000 });
  return { to, id, open: gate.open };
}

describe('urgent work', () => {
  test('that comes while a change waits for the running inference gets its own model next, after one load [SCHED-01, SCHED-09]', async () => {
    const { to, id: running, open } = await startHeld(one, { MODEL_MAX_LOADED: '1' });
    const [waiting = ''] = await submitAll(to, [two]);
    await eventually(async () => (await to.sql`select 1 from residency where state = 'draining'`).length === 1, { timeoutMs: 60_000 });
    const [urgent = ''] = await submitAll(to, [endless], [10]);
    await eventually(async () => (await to.sql`select 1 from residency_orders where state = 'open' and load_key = ${keyOf(endless)}`).length === 1, {
      timeoutMs: 60_000,
    });
    open();
    await allDone(to, [running, urgent, waiting]);
    expect(await started(to)).toEqual([running, urgent, waiting]);
    expect((await loads(to)).map(({ key }) => key)).toEqual([one, endless, two].map(keyOf));
  }, 180_000);
});

describe('what is expected', () => {
  test('behind a running step the times come from what such steps took before; nothing is told while nothing can be, and the queue says what the tasks say [PRED-12, TASK-04]', async () => {
    let took: number[] = [];
    const { to, open } = await startHeld(one, {}, async (fresh) => {
      const { sql } = fresh;
      await allDone(fresh, await submitAll(fresh, [one, one, one, one]));
      // until the forecast loop has learned of them
      await eventually(async () => (await sql`select 1 from duration_stats where samples >= 4`).length >= 3, { timeoutMs: 60_000 });
      took = (await sql<{ ms: number }[]>`select extract(epoch from ended_at - started_at)::float8 * 1000 as ms from line where state = 'done'`).map(
        ({ ms }) => ms,
      );
    });
    const ids = await submitAll(to, [one, one, one]);
    const look = async () => (await to.request('GET', '/api/v1/queue')).body as QueueView;
    const queue = await eventually(
      async () => {
        const seen = await look();
        return seen.items.length === 3 && seen.items.every((entry) => entry.estimated_start_time !== null) && seen;
      },
      { timeoutMs: 60_000 },
    );
    expect(queue.items.map((entry) => entry.task_id)).toEqual(ids);
    const at = (time: string | null | undefined) => Date.parse(time ?? '');
    const starts = queue.items.map((entry) => at(entry.estimated_start_time));
    for (const [index, entry] of queue.items.entries()) {
      const [low, high] = entry.estimated_start_interval ?? [];
      expect(at(low)).toBeLessThanOrEqual(at(high));
      expect(at(entry.estimated_completion_time)).toBeGreaterThan(starts[index] ?? 0);
      if (index === 0) continue;
      // One such step lies between two starts, and nothing else; a step of which nothing is known would be given 8 s.
      const betweenMs = (starts[index] ?? 0) - (starts[index - 1] ?? 0);
      expect(betweenMs).toBeGreaterThan(Math.min(...took) / 2);
      expect(betweenMs).toBeLessThan(2 * Math.max(...took) + 100);
    }
    await eventually(async () => {
      const before = await look();
      const tasks = await Promise.all(ids.map((id) => to.task(id)));
      const told = tasks.map((task) => [task.estimated_start_time, task.estimated_completion_time]);
      if ((await look()).made_at !== before.made_at) return false; // another forecast came between
      expect(told).toEqual(before.items.map((entry) => [entry.estimated_start_time, entry.estimated_completion_time]));
      return true;
    });

    await to.request('POST', `/api/v1/tasks/${ids[1]}/hold`);
    await eventually(async () => (await to.task(ids[1] ?? '')).estimated_start_time === null, { timeoutMs: 60_000 });
    await to.request('POST', `/api/v1/tasks/${ids[1]}/release`);
    open();
    await allDone(to, ids);
  }, 240_000);
});
