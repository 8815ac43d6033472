import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { decideOnce, expireGrants, loseHosts, nextDueMs } from '../../../db/decide.js';
import { checkInvariants } from '../../../db/invariants.js';
import { releaseEngine } from '../../../db/leases.js';
import type { Snapshot } from '../../../scheduling/policy.js';
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
  const [row] = await db.sql<{ seen: Snapshot | null }[]>`select decide_read(32) as seen`;
  if (!row?.seen) throw new Error('busy');
  return row.seen;
}

const ageGrants = (seconds: number) => db.sql`update line set granted_at = granted_at - ${seconds} * interval '1 second' where state = 'granted'`;

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
      expect(await decideOnce(db.sql, policy)).toEqual({ granted: [], ordered: [] });
    });
  });

  test('only one decides at a time', async () => {
    await world.enter(await world.task());
    await db.sql.begin(async (tx) => {
      await tx`select line_try_lock()`;
      expect(await decideOnce(db.sql, policy)).toBe('busy');
    });
    expect(await decideOnce(db.sql, policy)).toEqual({ granted: [], ordered: [] });
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
      hosts: [{ host, hostEpoch: epoch, parallel: 2 }],
      residency: [{ host, hostEpoch: epoch, key, state: 'serving', sinceMs: expect.any(Number) }],
      openOrders: [{ host, hostEpoch: epoch, unload: ['x'], load: { key: 'y~ctx1', model: { name: 'y', numCtx: 1 } } }],
      continuations: [{ key, host, agoMs: expect.any(Number) }],
      backingOff: [{ host, key: 'bad' }],
    });
    await world.enter(task, 'two');
    expect((await snapshot()).continuations).toEqual([]);
  });

  test('a policy sees the first steps of every level and of every key, however many are before', async () => {
    await world.host();
    const many = await world.task({ exact: 100 });
    await db.sql`
      insert into line (task_id, attempt, step, try, step_attempt, run_id, pool, key, level, exact, pos)
      select ${many.taskId}, 1, 's' || n, 1, 1, 'r', 'model', 'many', 10, 100, n from generate_series(1, 200) n`;
    const low = await world.task({ exact: 10, plan: chain(modelStep('one')) });
    await world.enter(low);
    const { heads } = await snapshot();
    expect(heads.length).toBeLessThan(60);
    expect(heads.at(-1)).toMatchObject({ taskId: low.taskId, key, level: 1 });
    const order = heads.slice(0, -1).map((head) => Number(head.pos));
    expect(order).toEqual(order.toSorted((a, b) => a - b));
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
      grants: [
        { row: running.row, pool: 'general', host: 'general', hostEpoch: 0, slot: 2, reason: 'moved' },
        { row: waiting.row, pool: 'general', host: 'general', hostEpoch: 0, slot: 1, reason: 'taken' },
        { row: model.row, pool: 'model', host, hostEpoch: epoch, slot: 1, reason: 'draining' },
      ],
      orders: [],
    }));
    expect(decided).toEqual({ granted: [], ordered: [] });
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
    const decisions = await db.sql`select decision_type, output_data ->> 'reason' as reason from orchestration_decisions`;
    expect(decisions).toEqual([{ decision_type: 'residency', reason: expect.stringContaining(key) }]);
    const again = await decideOnce(db.sql, () => ({
      grants: [],
      orders: [{ host, hostEpoch: epoch, unload: [], load: { key, model: need }, reason: 'again' }],
    }));
    expect(again).toEqual({ granted: [], ordered: [] });
  });

  test('no order is written for a host whose lease is past', async () => {
    const epoch = await world.host();
    await db.sql`update hosts set lease_until = now() - interval '1 second'`;
    const orders = [{ host, hostEpoch: epoch, unload: [], load: { key, model: need }, reason: 'late' }];
    expect(await decideOnce(db.sql, () => ({ grants: [], orders }))).toEqual({ granted: [], ordered: [] });
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
    expect(await expireGrants(db.sql)).toEqual([{ workflowId: `task-${task.taskId}`, grant }]);
    expect(await expireGrants(db.sql)).toEqual([]);
    await age(6.1);
    expect(await expireGrants(db.sql)).toEqual([{ workflowId: `task-${task.taskId}`, grant }]);
    expect(await expireGrants(db.sql)).toEqual([]);
    await age(15.1);
    expect(await expireGrants(db.sql)).toEqual([]);
    expect(await world.row(grant.row)).toMatchObject({ state: 'waiting', grant_id: null, host: null, slot: null, misses: 1 });
    expect(await world.line.claim(grant, engine)).toBeNull();
    expect(await db.sql`select * from holds`).toHaveLength(0);
    expect(await world.events(task.taskId)).toEqual(['grant_lost']);
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
