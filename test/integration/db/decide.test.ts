import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { decideOnce, expireGrants, loseHosts, nextDueMs, readSnapshot } from '../../../db/decide.js';
import { checkInvariants } from '../../../db/invariants.js';
import { releaseEngine } from '../../../db/leases.js';
import type { Decision, Snapshot } from '../../../scheduling/policy.js';
import { chain, planOf, planStep } from '../../support/plans.js';
import { createTestDatabase, type TestDatabase } from '../../support/servers.js';
import { createWorld, engine, host, identity, key, modelStep, need, policy } from './line-world.js';

let db: TestDatabase;
let world: ReturnType<typeof createWorld>;

beforeAll(async () => {
  db = await createTestDatabase();
  world = createWorld(db.sql);
});
afterAll(() => db.drop());
beforeEach(() => world.empty());
afterEach(async () => expect(await checkInvariants(db.sql)).toEqual([]));

async function snapshot(): Promise<Snapshot> {
  const seen = await readSnapshot(db.sql);
  if (!seen) throw new Error('busy');
  return seen;
}

function neverClaim(): never {
  throw new Error('expected a claim');
}

const idle: Decision = { grants: [], orders: [], keeps: [], refusals: [], heldBack: [] };
/** As if they had been told twice and so much time had passed. */
const ageGrants = (seconds: number) => db.sql`update line set granted_at = granted_at - ${seconds} * interval '1 second', signals = 2 where state = 'granted'`;

describe('a decision', () => {
  test('waiting steps are granted in the order of exact priority, then arrival', async () => {
    const tasks = [
      await world.task({ exact: 41 }),
      await world.task({ exact: 50 }),
      await world.task({ exact: 42 }),
      await world.task({ exact: 50 }),
      await world.task({ exact: 91 }),
    ];
    for (const task of tasks) await world.enter(task);
    await world.engine(4);
    const decided = await decideOnce(db.sql, policy);
    if (decided === 'busy') throw new Error('busy');
    expect(decided.granted.map(({ workflowId }) => workflowId)).toEqual([4, 1, 3, 2].map((index) => `task-${tasks[index]?.taskId}`));
    expect(decided.granted.map(({ grant }) => grant.slot)).toEqual([1, 2, 3, 4]);
    const decisions = await db.sql`select decision_type, output_data from orchestration_decisions`;
    expect(decisions).toHaveLength(4);
    for (const decision of decisions) expect(decision).toMatchObject({ decision_type: 'grant', output_data: { reason: expect.stringContaining('slot') } });
  });

  test('when nothing waits nobody takes the lock', async () => {
    await world.engine(1);
    await db.sql.begin(async (tx) => {
      await tx`select line_try_lock()`;
      expect(await decideOnce(db.sql, policy)).toEqual({ granted: [], ordered: [], refused: 0 });
    });
  });

  test('only one decides at a time', async () => {
    await world.enter(await world.task());
    await db.sql.begin(async (tx) => {
      await tx`select line_try_lock()`;
      expect(await decideOnce(db.sql, policy)).toBe('busy');
    });
    expect(await decideOnce(db.sql, policy)).toEqual({ granted: [], ordered: [], refused: 0 });
  });

  test('while an engine drains, as many run as the others have slots, whichever numbers theirs have', async () => {
    await world.engine(2);
    await world.engine(2, 'engine-2');
    const claims = [];
    for (let n = 0; n < 4; n += 1) claims.push(await world.claimed(await world.task()));
    for (const claim of claims.slice(0, 2)) await world.line.finish(claim, {}, {});
    await world.engine(0, 'engine-2');
    // slots 3 and 4 are taken, and there are two
    const needing = await world.task({ agent: 'bot' });
    for (const task of [await world.task(), needing]) expect((await world.enter(task)).state).toBe('waiting');
    expect(await decideOnce(db.sql, policy)).toMatchObject({ granted: [] });
    await world.line.finish(claims[2] ?? neverClaim(), {}, {});
    expect(await decideOnce(db.sql, policy)).toMatchObject({ granted: { length: 1 } });
    await world.line.finish(claims[3] ?? neverClaim(), {}, {});
    expect(await decideOnce(db.sql, policy)).toMatchObject({ granted: { length: 1 } });
  });

  test('while somebody decides, an entering step waits instead of passing by', async () => {
    await world.engine(1);
    await db.sql.begin(async (tx) => {
      await tx`select line_try_lock()`;
      expect((await world.enter(await world.task())).state).toBe('waiting');
    });
  });

  test('a policy sees slots, hosts, residency, orders, continuations and back-offs', async () => {
    await world.engine(2);
    const epoch = await world.host({ parallel: 2, serving: [key] });
    const task = await world.task({ plan: chain(modelStep('one'), modelStep('two')) });
    await world.line.finish(await world.claimed(task, 'one'), {}, {});
    await world.granted(await world.task());
    await db.sql`insert into residency_orders (host, host_epoch, unload, load_key, load_model, load_num_ctx, reason) values (${host}, ${epoch}, '{x}', 'y~ctx1', 'y', 1, 'test')`;
    await db.sql`insert into residency_backoff (host, key, until, error) values (${host}, 'bad', now() + interval '1 minute', '{}'), (${host}, 'past', now() - interval '1 minute', '{}')`;
    await db.sql`update line set ended_at = clock_timestamp() where state = 'done'`; // however slow this machine is
    expect(await snapshot()).toMatchObject({
      heads: [],
      slots: [
        { pool: 'general', host: 'general', hostEpoch: 0, key: null, capacity: 2, taken: [1] },
        { pool: 'model', host, hostEpoch: epoch, key, capacity: 2, taken: [] },
      ],
      hosts: [{ host, hostEpoch: epoch, parallel: 2, modelsMax: 1, roomBytes: null, budgetBytes: null, paused: false }],
      residency: [{ host, hostEpoch: epoch, key, state: 'serving', sinceMs: expect.any(Number), servedMs: expect.any(Number) }],
      openOrders: [{ host, hostEpoch: epoch, unload: ['x'], load: { key: 'y~ctx1', model: { name: 'y', numCtx: 1 } } }],
      continuations: [{ key, host, agoMs: expect.any(Number), level: 5 }],
      backingOff: [{ host, key: 'bad' }],
      costs: [],
      backlog: [],
      soon: [],
    });
    await world.enter(task, 'two');
    expect((await snapshot()).continuations).toEqual([]);
  });

  /** Waiting rows of one task; each entry is [key, level, exact, place, minutes of waiting, how many]. */
  async function waitingRows(...groups: readonly (readonly [key: string | null, level: number, exact: number, pos: number, minutes: number, count: number])[]) {
    const { taskId } = await world.task();
    for (const [of, level, exact, pos, minutes, count] of groups) {
      await db.sql`
        insert into line (task_id, attempt, step, try, step_attempt, run_id, pool, key, level, exact, pos, entered_at)
        select ${taskId}, 1, gen_random_uuid(), 1, 1, 'r', case when ${of}::text is null then 'general' else 'model' end, ${of}, ${level}, ${exact}, ${pos}::numeric + n,
          clock_timestamp() - ${minutes} * interval '1 minute'
        from generate_series(0, ${count - 1}) n`;
    }
    await db.sql`analyze line`;
    return taskId;
  }

  test('a policy sees the first step of every key, however many are before', async () => {
    await world.host();
    await waitingRows(['many~ctx1', 10, 100, 1, 0, 200], ['many~ctx1', 3, 30, 300, 0, 200], ['other~ctx1', 10, 95, 600, 0, 200]);
    const low = await world.task({ exact: 10, plan: chain(modelStep('one')) });
    await world.enter(low);
    const { heads } = await snapshot();
    expect(heads.map(({ key: of, level }) => [of, level])).toEqual([
      ['many~ctx1', 10],
      ['other~ctx1', 10],
      [key, 1],
    ]);
    expect(heads.at(-1)).toMatchObject({ taskId: low.taskId, continues: false });
  });

  test('a policy sees as many steps of a served key as it has places free, and of the general pool', async () => {
    await world.host({ parallel: 4, serving: [key] });
    await world.engine(3);
    await waitingRows([key, 5, 45, 1, 0, 2], [key, 5, 50, 10, 0, 50], [null, 5, 50, 100, 0, 50]);
    const { heads } = await snapshot();
    expect(heads.filter(({ pool }) => pool === 'general')).toHaveLength(3);
    expect(heads.filter(({ pool }) => pool === 'model').map(({ exact }) => exact)).toEqual([50, 50, 50, 50]);
  });

  test('a policy sees the raised steps that come first, behind any number of others [SCHED-04]', async () => {
    await world.host({ parallel: 2, serving: [key] });
    // twice raised: the last to arrive of all; once raised: those before it; not raised: exact 50
    await waitingRows([key, 5, 50, 1, 0, 300], [key, 5, 41, 1_000, 16, 300], [key, 5, 42, 5_000, 31, 1], [key, 10, 91, 6_000, 60, 1]);
    const { heads } = await snapshot();
    const seen = heads.map(({ level, exact, waitedMs }) => `${level} ${exact} ${Math.floor(waitedMs / 60_000)}`);
    expect(new Set(seen)).toEqual(new Set(['10 91 60', '5 42 31', '5 41 16', '5 50 0']));
    const order = policy({ ...(await snapshot()), heads }).grants.map(({ row }) => heads.find((head) => head.row === row)?.exact);
    expect(order).toEqual([91, 42]);
  });

  test('what a policy sees is all that it would grant of the whole line [SCHED-04]', async () => {
    const epoch = await world.host({ parallel: 3, serving: [key] });
    for (let round = 0; round < 12; round++) {
      await db.sql`delete from tasks`;
      const { taskId } = await world.task();
      // deterministic noise, so that a failure can be looked at again
      await db.sql`
        insert into line (task_id, attempt, step, try, step_attempt, run_id, pool, key, level, exact, pos, entered_at)
        select ${taskId}, 1, 's' || n, 1, 1, 'r', 'model', ${key}, greatest(1, ceil(x / 10.0)), x, (n * 7919 + ${round} * 31) % 1009,
          clock_timestamp() - ((n * 104729 + ${round} * 17) % ${[1, 20, 45, 200][round % 4] ?? 1}) * interval '1 minute'
        from (select n, (n * 611953 + ${round} * 13) % 81 as x from generate_series(1, 120) n) w`;
      const seen = await snapshot();
      const all = await db.sql<Snapshot['heads'][number][]>`
        select id::text as row, task_id as "taskId", pool, key, level, exact, (row_number() over (order by pos, id))::integer as place, false as continues,
          floor(extract(epoch from clock_timestamp() - entered_at) * 1000)::float8 as "waitedMs" from line where state = 'waiting'`;
      const granted = (heads: Snapshot['heads']) => policy({ ...seen, heads }).grants.map(({ row, slot, hostEpoch }) => [row, slot, hostEpoch]);
      expect(granted(seen.heads)).toEqual(granted(all));
      expect(granted(all)[0]?.[2]).toBe(epoch);
    }
  });

  test('a policy sees the steps whose plan goes on with a served key, however many are before [TPL-25]', async () => {
    const task = await world.task({ exact: 1, plan: chain(modelStep('one'), modelStep('two')) });
    await world.host({ serving: [key] });
    await world.line.finish(await world.claimed(task, 'one'), {}, {});
    await waitingRows([key, 1, 9, 1, 0, 50]);
    await world.enter(task, 'two');
    const { heads, continuations } = await snapshot();
    expect(heads.filter(({ continues }) => continues).map(({ taskId }) => taskId)).toEqual([task.taskId]);
    expect(continuations).toEqual([]);
  });

  test('held tasks and paused models, hosts and queues are granted nothing, neither at once nor by a decision', async () => {
    await world.host({ serving: [key] });
    await world.engine(5);
    const plan = chain(modelStep('one'));
    const pauses = async (scope: string) => {
      await db.sql`delete from queue_pauses`;
      await db.sql`insert into queue_pauses (scope, by_user, reason) values (${scope}, 'ada', 'a test')`;
    };
    await pauses(`model:${need.name}`);
    const model = await world.enter(await world.task({ plan }));
    expect(model.state).toBe('waiting');
    expect((await snapshot()).heads).toEqual([]);
    expect((await world.enter(await world.task())).state).toBe('granted');
    await pauses(`host:${host}`);
    expect(await decideOnce(db.sql, policy)).toMatchObject({ granted: [] });
    expect((await snapshot()).hosts).toMatchObject([{ paused: true }]);
    await pauses('queue');
    expect((await world.enter(await world.task())).state).toBe('waiting');
    expect(await decideOnce(db.sql, policy)).toMatchObject({ granted: [] });
    await db.sql`delete from queue_pauses`;
    expect(await decideOnce(db.sql, policy)).toMatchObject({ granted: { length: 2 } });

    const held = await world.task();
    await db.sql`update tasks set held_at = now() where id = ${held.taskId}`;
    expect((await world.enter(held)).state).toBe('waiting');
    expect((await snapshot()).heads).toEqual([]);
    expect((await world.enter(await world.task())).state).toBe('granted');
    await db.sql`update tasks set held_at = null where id = ${held.taskId}`;
    expect(await decideOnce(db.sql, policy)).toMatchObject({ granted: [{ workflowId: `task-${held.taskId}` }] });
  });

  test('a task that is held after it began to wait is passed over until it is released', async () => {
    const task = await world.task();
    await world.enter(task);
    await db.sql`update tasks set held_at = now() where id = ${task.taskId}`;
    await world.engine(1);
    expect(await decideOnce(db.sql, policy)).toMatchObject({ granted: [] });
    await db.sql`update tasks set held_at = null where id = ${task.taskId}`;
    expect(await decideOnce(db.sql, policy)).toMatchObject({ granted: { length: 1 } });
  });

  test('what a residency has served counts from its load, divided by its slots, with what runs and what failed', async () => {
    await world.host({ parallel: 2, serving: [key] });
    const served = async () => (await snapshot()).residency[0]?.servedMs ?? 0;
    expect(await served()).toBe(0);
    const plan = chain(modelStep('one'));
    const [one, two] = [await world.claimed(await world.task({ plan })), await world.claimed(await world.task({ plan }))];
    await db.sql`update line set started_at = started_at - interval '10 seconds'`;
    expect(Math.floor((await served()) / 1_000)).toBe(10);
    await world.line.finish(one, {}, {});
    expect(Math.floor((await served()) / 1_000)).toBe(10);
    await world.line.fail(two, { code: 'x', message: 'x' }, {});
    expect(Math.floor((await served()) / 1_000)).toBe(10);
    const third = await world.claimed(await world.task({ plan }));
    await db.sql`update line set started_at = started_at - interval '4 seconds' where state = 'running'`;
    await db.sql`select line_void(array[${third.row}]::bigint[], 'superseded')`;
    expect(Math.floor((await served()) / 1_000)).toBe(12);
  });

  test('a policy sees what keys cost on each host: what was measured, else the size of the file and a tenth more', async () => {
    await world.host({ serving: [key] });
    await world.enter(await world.task({ plan: chain(modelStep('one', { model: { name: 'big:latest', numCtx: 2048 } })) }));
    await db.sql`insert into models (host, name, digest, size_bytes) values (${host}, 'big:latest', 'd', 1000), (${host}, ${need.name}, 'd', 500)`;
    await db.sql`insert into key_costs (host, key, load_ms, bytes, samples) values (${host}, ${key}, 1500, 700, 3)`;
    const { costs, backlog } = await snapshot();
    expect(costs.toSorted((a, b) => (a.bytes ?? 0) - (b.bytes ?? 0))).toEqual([
      { host, key, loadMs: 1500, bytes: 700 },
      { host, key: 'big:latest~ctx2048', loadMs: null, bytes: 1100 },
    ]);
    expect(backlog).toEqual([{ key: 'big:latest~ctx2048', waiting: 1, serviceMs: null }]);
  });

  test('a policy sees which keys later steps of running plans and released dependents are going to need', async () => {
    await world.engine(2);
    const later = { name: 'later:latest', numCtx: 1024 };
    const after = { name: 'after:latest', numCtx: 1024 };
    const running = await world.task({ plan: chain(planStep('one'), planStep('two'), modelStep('three', { model: later })) });
    await world.claimed(running, 'one');
    const child = await world.task({ after: [running.taskId], plan: chain(modelStep('one', { model: after })) });
    await world.enter(child);
    const { soon } = await snapshot();
    expect(soon.map(({ key: of }) => of)).toEqual(['later:latest~ctx1024', 'after:latest~ctx1024']);
    expect(soon[0]?.inMs).toBeLessThanOrEqual(20_000);
  });

  test('while nothing waits, a model that will be needed is loaded beside what is there [MODEL-07]', async () => {
    await world.engine(1);
    const room = { modelsMax: 2, roomBytes: 1_000, budgetBytes: 1_000, spillBytes: 0 };
    const epoch = await world.host({ serving: [key], room });
    await db.sql`insert into key_costs (host, key, load_ms, bytes, samples) values (${host}, ${key}, 1500, 400, 1), (${host}, 'later:latest~ctx1024', 1500, 500, 1)`;
    await world.claimed(await world.task({ plan: chain(planStep('one'), modelStep('two', { model: { name: 'later:latest', numCtx: 1024 } })) }));
    const decided = await decideOnce(db.sql, policy);
    expect(decided).toMatchObject({ ordered: [{ host, hostEpoch: epoch, unload: [], load: { key: 'later:latest~ctx1024' } }] });
  });

  test('steps of a model that fits nowhere end at once, each told why [MODEL-09]', async () => {
    await world.host({ serving: [key], room: { modelsMax: 3, roomBytes: 900, budgetBytes: 1_000, spillBytes: 0 } });
    await db.sql`insert into models (host, name, digest, size_bytes) values (${host}, 'big:latest', 'd', 1000)`;
    const task = await world.task({ plan: chain(modelStep('one', { model: { name: 'big:latest', numCtx: 2048 } })) });
    const entered = await world.enter(task);
    if (entered.state !== 'waiting') throw new Error('not set up');
    expect(await decideOnce(db.sql, policy)).toEqual({ granted: [], ordered: [], refused: 1 });
    expect(await world.row(entered.row)).toMatchObject({ state: 'void', cause: 'model_out_of_memory' });
    expect(await db.sql`select kind, task_id, payload -> 'args' -> 0 as refusal from outbox`).toEqual([
      {
        kind: 'signal',
        task_id: task.taskId,
        refusal: { row: entered.row, code: 'model_out_of_memory', message: expect.stringContaining('big:latest'), retryable: false },
      },
    ]);
    expect(await db.sql`select decision_type, output_data ->> 'steps' as steps from orchestration_decisions`).toEqual([
      { decision_type: 'refusal', steps: '1' },
    ]);
  });

  test('ten times as many steps of 100 models are looked at in about the same time [PERF-06]', async () => {
    await world.host({ parallel: 4, serving: [key] });
    const { taskId } = await world.task();
    /** The shortest of some looks, since others use this machine too. */
    const lookMs = async (from: number, to: number) => {
      await db.sql`
        insert into line (task_id, attempt, step, try, step_attempt, run_id, pool, key, level, exact, pos, entered_at)
        select ${taskId}, 1, 's' || n, 1, 1, 'r', 'model', 'm' || n % 100 || '~ctx4096', greatest(1, ceil(x / 10.0)), x, n, clock_timestamp() - (10000 - n) * interval '1 second'
        from (select n, (n * 7919) % 101 as x from generate_series(${from}::integer, ${to}::integer) n) w`;
      await db.sql`analyze line`;
      let shortestMs = Infinity;
      for (let round = 0; round < 15; round++) {
        const startedMs = performance.now();
        await snapshot();
        shortestMs = Math.min(shortestMs, performance.now() - startedMs);
      }
      return shortestMs;
    };
    const thousandMs = await lookMs(1, 1_000);
    const tenThousandMs = await lookMs(1_001, 10_000);
    console.log(`a snapshot of 10,000 steps of 100 models: ${tenThousandMs.toFixed(1)} ms, of 1,000: ${thousandMs.toFixed(1)} ms`);
    expect(tenThousandMs).toBeLessThan(5 * thousandMs);
  });

  describe('of steps for thousands of models', () => {
    const steps = async (count: number) => {
      const { taskId } = await world.task();
      await db.sql`
        insert into line (task_id, attempt, step, try, step_attempt, run_id, pool, key, level, exact, pos)
        select ${taskId}, 1, 's' || n, 1, 1, 'r', 'model', 'm' || n || '~ctx4096', 5, 50, n from generate_series(1, ${count}::integer) n`;
      await db.sql`analyze line`;
    };

    test('looks at 300 by turns, so that it takes no longer and passes over none for ever, and at what is served each time [PERF-06]', async () => {
      await world.host({ parallel: 4, serving: ['m7~ctx4096'] });
      await steps(2_000);
      const seen = new Set<string>();
      for (let look = 0; look < 8; look++) {
        const keys = new Set((await snapshot()).heads.map((head) => head.key ?? ''));
        expect(keys.size).toBeLessThanOrEqual(301);
        expect(keys).toContain('m7~ctx4096');
        for (const each of keys) seen.add(each);
      }
      expect(seen.size).toBe(2_000);
    });

    test('up to 300 all are looked at [PERF-06]', async () => {
      await world.host({ parallel: 4, serving: [] });
      await steps(300);
      expect((await snapshot()).heads).toHaveLength(300);
    });
  });

  test('of thousands of tasks that wait for one that runs a hundred are looked at [MODEL-07]', async () => {
    await world.host({ serving: [] });
    await world.engine(1);
    const run = await world.task();
    await world.claimed(run);
    await db.sql`
      with made as (
        insert into tasks (name, type, user_id, template, template_hash, plan) select 'child ' || n, 'test', 'me', 'test', '', '{}' from generate_series(1, 3000) n returning id, pos),
      open as (insert into task_dependencies (child_task_id, parent_task_id) select id, ${run.taskId} from made)
      insert into line (task_id, attempt, step, try, step_attempt, run_id, pool, key, level, exact, pos, not_before)
      select id, 1, 'only', 1, 1, 'r', 'model', 'm' || pos || '~ctx4096', 5, 50, pos, 'infinity' from made`;
    expect((await snapshot()).soon.length).toBeLessThanOrEqual(100);
    expect((await snapshot()).soon.length).toBeGreaterThan(0);
  });

  test('a grant for a row that moved, a taken slot or a key that drains is passed over', async () => {
    await world.engine(1);
    const epoch = await world.host({ serving: [key] });
    const running = await world.granted(await world.task());
    const waiting = await world.enter(await world.task());
    const model = await world.enter(await world.task({ plan: chain(modelStep('one')) }));
    if (waiting.state !== 'waiting' || model.state !== 'granted') throw new Error('not set up');
    await db.sql`update line set state = 'waiting', grant_id = null, host = null, host_epoch = null, slot = null where id = ${model.row}`;
    await db.sql`update residency set state = 'draining'`;
    const decided = await decideOnce(db.sql, () => ({
      ...idle,
      grants: [
        { row: running.row, pool: 'general', host: 'general', hostEpoch: 0, slot: 2, reason: 'moved' },
        { row: waiting.row, pool: 'general', host: 'general', hostEpoch: 0, slot: 1, reason: 'taken' },
        { row: model.row, pool: 'model', host, hostEpoch: epoch, slot: 1, reason: 'draining' },
      ],
    }));
    expect(decided).toEqual({ granted: [], ordered: [], refused: 0 });
  });

  test('two steps that need the same agent are not granted together, both steps of one task are [CONC-03]', async () => {
    const both = await world.task({ agent: 'bot', plan: planOf(planStep('one'), planStep('two')) });
    await world.enter(both, 'one');
    await world.enter(both, 'two');
    await world.enter(await world.task({ agent: 'bot' }));
    await world.engine(5);
    const decided = await decideOnce(db.sql, policy);
    if (decided === 'busy') throw new Error('busy');
    expect(decided.granted.map(({ workflowId }) => workflowId)).toEqual([`task-${both.taskId}`, `task-${both.taskId}`]);
  });

  test('a residency order is written once for a host, with its outbox row and its reason', async () => {
    const epoch = await world.host();
    await world.enter(await world.task({ plan: chain(modelStep('one')) }));
    const decided = await decideOnce(db.sql, policy);
    if (decided === 'busy') throw new Error('busy');
    expect(decided.ordered).toEqual([{ id: expect.any(String), host, hostEpoch: epoch, unload: [], load: { key, model: need } }]);
    expect(await db.sql`select kind, workflow_id, payload from outbox`).toEqual([
      { kind: 'residency', workflow_id: `residency-${host}`, payload: decided.ordered[0] },
    ]);
    const decisions = await db.sql`
      select decision_type, input_data -> 'first' ->> 'level' as level, output_data ->> 'reason' as reason, execution_time_ms as took from orchestration_decisions`;
    expect(decisions).toEqual([{ decision_type: 'residency', level: '5', reason: expect.stringContaining(key), took: expect.any(Number) }]);
    const again = await decideOnce(db.sql, () => ({
      ...idle,
      orders: [{ host, hostEpoch: epoch, unload: [], load: { key, model: need }, reason: 'again', terms: [] }],
    }));
    expect(again).toEqual({ granted: [], ordered: [], refused: 0 });
  });

  test('no order is written for a host whose lease is past', async () => {
    const epoch = await world.host();
    await db.sql`update hosts set lease_until = now() - interval '1 second'`;
    const orders = [{ host, hostEpoch: epoch, unload: [], load: { key, model: need }, reason: 'late', terms: [] }];
    expect(await decideOnce(db.sql, () => ({ ...idle, orders }))).toEqual({ granted: [], ordered: [], refused: 0 });
  });
});

describe('expire', () => {
  test('an unanswered grant is told again at 2 s and 6 s, once each, and goes back to the line at 15 s', async () => {
    await world.engine(1);
    const task = await world.task({ agent: 'bot' });
    const grant = await world.granted(task);
    const age = (seconds: number) => db.sql`update line set granted_at = clock_timestamp() - ${seconds} * interval '1 second' where state = 'granted'`;
    await age(0);
    expect(await expireGrants(db.sql)).toEqual([]);
    await age(2.1);
    expect(await expireGrants(db.sql)).toEqual([{ workflowId: `task-${task.taskId}`, grant: { ...grant, grantedAtMs: expect.any(Number) } }]);
    expect(await expireGrants(db.sql)).toEqual([]);
    await age(6.1);
    expect(await expireGrants(db.sql)).toEqual([{ workflowId: `task-${task.taskId}`, grant: { ...grant, grantedAtMs: expect.any(Number) } }]);
    expect(await expireGrants(db.sql)).toEqual([]);
    await age(15.1);
    expect(await expireGrants(db.sql)).toEqual([]);
    expect(await world.row(grant.row)).toMatchObject({ state: 'waiting', grant_id: null, host: null, slot: null, misses: 1 });
    expect(await world.line.claim(grant, engine)).toBeNull();
    expect(await db.sql`select * from holds`).toHaveLength(0);
    expect(await world.events(task.taskId)).toEqual(['grant_lost']);
  });

  test('a grant that nobody was told of again, since no engine was there, is told anew and keeps its place', async () => {
    await world.engine(1);
    const task = await world.task();
    const grant = await world.granted(task);
    await db.sql`update line set granted_at = clock_timestamp() - interval '1 minute' where state = 'granted'`;
    expect(await expireGrants(db.sql)).toEqual([{ workflowId: `task-${task.taskId}`, grant: { ...grant, grantedAtMs: expect.any(Number) } }]);
    expect(await expireGrants(db.sql)).toEqual([]);
    expect(await world.row(grant.row)).toMatchObject({ state: 'granted', grant_id: grant.grantId, misses: 0, signals: 0 });
    expect(await world.line.claim(grant, engine)).not.toBeNull();
  });

  test('one sick workflow never blocks the line: each miss doubles its pause, up to ten minutes', async () => {
    await world.engine(1);
    const grant = await world.granted(await world.task());
    const pausesS: number[] = [];
    for (let miss = 0; miss < 8; miss++) {
      await ageGrants(15.1);
      await expireGrants(db.sql);
      const [row] = await db.sql<{ pause: number }[]>`select extract(epoch from not_before - clock_timestamp())::float8 as pause from line`;
      expect(Math.abs(((await nextDueMs(db.sql)) ?? 0) / 1_000 - (row?.pause ?? 0))).toBeLessThan(5);
      pausesS.push(Math.ceil((row?.pause ?? 0) / 15) * 15);
      expect(await decideOnce(db.sql, policy)).toMatchObject({ granted: [] });
      await db.sql`update line set not_before = now() - interval '1 second'`;
      expect(await nextDueMs(db.sql)).toBeNull();
      expect(await decideOnce(db.sql, policy)).toMatchObject({ granted: [{ grant: { row: grant.row } }] });
    }
    expect(pausesS).toEqual([15, 30, 60, 120, 240, 480, 600, 600]);
  });

  test('while it pauses, others are granted at once', async () => {
    await world.engine(1);
    await world.granted(await world.task());
    await ageGrants(15.1);
    await expireGrants(db.sql);
    expect((await world.enter(await world.task())).state).toBe('granted');
  });
});

describe('what is taken back', () => {
  test('is so by whoever decides: while somebody does, nothing is looked for, and later all of it is found', async () => {
    await world.engine(2);
    await world.engine(2, 'engine-2');
    const plan = planOf(planStep('one'), planStep('two'));
    const task = await world.task({ plan, agent: 'bot' });
    await world.granted(task, 'one');
    await ageGrants(15.1);
    const other = await world.line.claim(await world.granted(await world.task()), 'engine-2');
    await db.sql`update engines set lease_until = now() - interval '1 second' where id = 'engine-2'`;
    await db.sql.begin(async (tx) => {
      await tx`select line_try_lock()`;
      // A decision that saw the lock of the task held gives its other step a slot; freed meanwhile, it would run without.
      expect([await loseHosts(db.sql), await expireGrants(db.sql)]).toEqual(['busy', 'busy']);
    });
    expect(await db.sql`select task_id from holds`).toEqual([{ task_id: task.taskId }]);
    expect(await loseHosts(db.sql)).toMatchObject([{ kind: 'running', row: other?.row }]);
    expect(await expireGrants(db.sql)).toEqual([]);
    expect(await db.sql`select task_id from holds`).toEqual([]);
  });

  test('where nothing is to be taken back, nobody waits for the lock', async () => {
    await world.engine(1);
    await world.granted(await world.task());
    await db.sql.begin(async (tx) => {
      await tx`select line_try_lock()`;
      expect([await loseHosts(db.sql), await expireGrants(db.sql)]).toEqual([[], []]);
    });
  });
});

describe('host lost', () => {
  test('a lapsed host’s grants wait again, its running steps are void, its residency and order are gone', async () => {
    const epoch = await world.host({ parallel: 2, serving: [key] });
    const plan = chain(modelStep('one'));
    const running = await world.task({ plan });
    const claim = await world.claimed(running);
    const granted = await world.granted(await world.task({ plan }));
    await db.sql`insert into residency_orders (host, host_epoch, load_key, reason) values (${host}, ${epoch}, 'x', 'test')`;
    expect(await loseHosts(db.sql)).toEqual([]);
    await db.sql`update hosts set lease_until = now() - interval '1 second'`;
    const lost = await loseHosts(db.sql);
    if (lost === 'busy') throw new Error('busy');
    expect(lost.map(({ kind }) => kind).toSorted()).toEqual(['granted', 'order', 'residency', 'running']);
    expect(await world.row(claim.row)).toMatchObject({ state: 'void', cause: 'host_lost' });
    expect(await world.row(granted.row)).toMatchObject({ state: 'waiting', grant_id: null, misses: 0 });
    expect(await world.line.finish(claim, {}, {})).toBeNull();
    expect(await db.sql`select state, error ->> 'code' as code from residency_orders`).toEqual([{ state: 'failed', code: 'host_lost' }]);
    expect(await db.sql`select status from task_executions`).toEqual([{ status: 'void' }]);
    expect(await loseHosts(db.sql)).toEqual([]);
    expect((await world.enter(running)).state).toBe('waiting');
  });

  test('what a host held under its old epoch is lost when it begins anew', async () => {
    await world.host({ serving: [key] });
    const claim = await world.claimed(await world.task({ plan: chain(modelStep('one')) }));
    await db.sql`update hosts set lease_until = now() - interval '1 second'`;
    expect(await world.host()).toBe(2);
    await loseHosts(db.sql);
    expect(await world.row(claim.row)).toMatchObject({ state: 'void', cause: 'host_lost' });
    expect(await db.sql`select * from residency`).toHaveLength(0);
  });

  test('steps of a dead engine are void, those of a live one go on', async () => {
    await world.engine(1);
    await world.engine(1, 'engine-2');
    const [one, two] = [await world.task(), await world.task()];
    const first = await world.claimed(one);
    const second = await world.line.claim(await world.granted(two), 'engine-2');
    if (!second) throw new Error('not claimed');
    await releaseEngine(db.sql, engine);
    await loseHosts(db.sql);
    expect(await world.row(first.row)).toMatchObject({ state: 'void', cause: 'host_lost' });
    expect(await world.line.finish(second, {}, {})).not.toBeNull();
    expect(await world.line.close(identity(two), { status: 'completed', error: null })).toBe(true);
  });
});
