import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { decideOnce } from '../../../db/decide.js';
import {
  acquireLock,
  configurePools,
  giveWay,
  listLocks,
  listResources,
  readExceeded,
  readWaits,
  releaseLock,
  settleGivenWays,
  tellShares,
} from '../../../db/holds.js';
import { checkInvariants } from '../../../db/invariants.js';
import { cancelTask, holdTask, retryTask } from '../../../db/moves.js';
import { closeOutside } from '../../../db/reconcile.js';
import { readTask } from '../../../db/tasks.js';
import { defaultMaxWaitsMs } from '../../../scheduling/waiting-order.js';
import { findDeadlocks } from '../../../scheduling/wait-for.js';
import { chain, planOf, planStep } from '../../support/plans.js';
import { createTestDatabase, eventually, type TestDatabase } from '../../support/servers.js';
import { createWorld, engine, identity, policy } from './line-world.js';

let db: TestDatabase;
let world: ReturnType<typeof createWorld>;
type Task = Awaited<ReturnType<ReturnType<typeof createWorld>['task']>>;

beforeAll(async () => {
  db = await createTestDatabase();
  world = createWorld(db.sql);
});
afterAll(() => db.drop());
beforeEach(() => world.empty());
afterEach(async () => expect(await checkInvariants(db.sql)).toEqual([]));

const anybody = { owner: null, wait: false, locksMax: 20 };
const waiter = { ...anybody, wait: true };
const held = async () => (await listLocks(db.sql, null, { after: null, limit: 500 })).map(({ name }) => name);
const allocated = async () => Object.fromEntries((await listResources(db.sql, null)).map(({ pool, allocated: amount }) => [pool, amount]));
const detail = async ({ taskId }: Task) => (await readTask(db.sql, taskId, null))?.statusDetail;

/** Ids of the tasks that a decision grants, in its order. */
async function decided(): Promise<string[]> {
  const done = await decideOnce(db.sql, policy);
  if (done === 'busy') throw new Error('busy');
  return done.granted.map(({ workflowId }) => workflowId.slice('task-'.length));
}

/** Claims what a task was granted. */
async function claimGranted(task: Task) {
  const entered = await world.enter(task);
  if (entered.state !== 'granted') throw new Error(`expected a grant, got ${entered.state}`);
  const claim = await world.line.claim(entered.grant, engine);
  if (!claim) throw new Error('expected a claim');
  return claim;
}

const failed = { status: 'failed', error: { code: 'step_failed', message: 'no', step: 'one', attempt: 1 } } as const;

describe('what a task needs', () => {
  const requires = { cpu_cores: 2, locks: ['deploy', 'a'], resources: { licences: 1 } };

  beforeEach(async () => {
    await world.engine(10);
    await configurePools(db.sql, { cpu: 4, licences: 3 });
  });

  test('comes with its first grant, lasts over its steps, and goes with its end [CONC-02, CONC-07, CONC-08]', async () => {
    const task = await world.task({ plan: chain(planStep('one'), planStep('two')), requires });
    const claim = await world.claimed(task, 'one');
    expect([await held(), await allocated()]).toEqual([['a', 'deploy'], { cpu: 2, licences: 1 }]);
    await world.line.finish(claim, {}, {});
    expect(await held()).toEqual(['a', 'deploy']);
    await world.line.finish(await world.claimed(task, 'two'), {}, {});
    expect([await held(), await allocated()]).toEqual([[], { cpu: 0, licences: 0 }]);
  });

  test('is taken all of it or nothing, and why a task waits can be read [CONC-02, CONC-07, SCHED-23]', async () => {
    const first = await world.task({ requires });
    const claim = await world.claimed(first);
    const [lacksLock, lacksCpu, lacksNothing] = [
      await world.task({ requires: { cpu_cores: 1, locks: ['b', 'a'] } }),
      await world.task({ requires: { cpu_cores: 3, locks: ['c'] } }),
      await world.task({}),
    ];
    for (const task of [lacksLock, lacksCpu, lacksNothing]) expect((await world.enter(task)).state).toBe('waiting');
    expect(await decided()).toEqual([lacksNothing.taskId]);
    expect([await held(), await allocated()]).toEqual([['a', 'deploy'], { cpu: 2, licences: 1 }]);
    expect([await detail(lacksLock), await detail(lacksCpu)]).toEqual(['waiting_lock', 'waiting_resource']);
    expect((await listLocks(db.sql, null, { after: null, limit: 1 }))[0]).toMatchObject({ name: 'a', taskId: first.taskId, waiting: [lacksLock.taskId] });
    expect(await listResources(db.sql, null)).toMatchObject([
      { pool: 'cpu', total: 4, allocated: 2, tasks: [{ task_id: first.taskId, amount: 2 }], waiting: 2 },
      { pool: 'licences' },
    ]);
    await world.line.finish(claim, {}, {});
    expect(await decided()).toEqual([lacksLock.taskId, lacksCpu.taskId]);
    expect([await held(), await allocated()]).toEqual([['a', 'b', 'c'], { cpu: 4, licences: 0 }]);
  });

  test('goes with the grant of a task that never started, when its run leaves the step [CONC-08]', async () => {
    const plan = planOf(planStep('one'), planStep('two'));
    const task = await world.task({ plan, requires });
    await world.granted(task, 'one');
    await world.granted(task, 'two');
    await world.line.leave(identity(task), 'one', 'lost');
    expect(await held()).toEqual(['a', 'deploy']); // the other one may be claimed any moment
    await world.line.leave(identity(task), 'two', 'lost');
    expect([await held(), await allocated()]).toEqual([[], { cpu: 0, licences: 0 }]);
    // one that has started keeps it to its end
    const started = await world.task({ plan, requires });
    await world.claimed(started, 'one');
    await world.granted(started, 'two');
    await world.line.leave(identity(started), 'two', 'lost');
    await world.line.leave(identity(started), 'one', 'lost');
    expect(await held()).toEqual(['a', 'deploy']);
  });

  test('is not freed under a decision that counts on it: whoever leaves a step waits for that one [CONC-02]', async () => {
    const task = await world.task({ requires });
    await world.granted(task);
    let left: Promise<void> | undefined;
    await db.sql.begin(async (tx) => {
      await tx`select line_try_lock()`;
      left = world.line.leave(identity(task), 'one', 'lost');
      await eventually(
        async () =>
          (
            await tx`select 1 from pg_locks where locktype = 'advisory' and classid = 7032 and not granted and database = (select oid from pg_database where datname = current_database())`
          ).length === 1,
      );
      expect(await held()).toEqual(['a', 'deploy']);
    });
    await left;
    expect(await held()).toEqual([]);
  });

  const ends: Record<string, (task: Task) => Promise<unknown>> = {
    success: async (task) => world.line.finish(await claimGranted(task), {}, {}),
    failure: async (task) => {
      await world.line.fail(await claimGranted(task), { code: 'step_failed', message: 'no' }, {});
      await world.line.close(identity(task), failed);
    },
    'a time-out': async (task) => {
      await claimGranted(task);
      await world.line.leave(identity(task), 'one', 'timeout');
      await world.line.close(identity(task), { ...failed, error: { ...failed.error, code: 'timeout' } });
    },
    'a cancel before it is claimed': async (task) => cancelTask(db.sql, task.taskId, null),
    'a cancel while it runs': async (task) => {
      await claimGranted(task);
      await cancelTask(db.sql, task.taskId, null);
      await world.line.close(identity(task), { status: 'cancelled', error: null });
    },
    'an end from outside': async (task) => {
      await claimGranted(task);
      await closeOutside(db.sql, { taskId: task.taskId, attempt: 1 }, { code: 'ended_outside', message: 'x' });
    },
  };
  test.each(Object.keys(ends))('is freed by %s [CONC-08]', async (how) => {
    const task = await world.task({ requires });
    expect((await world.enter(task)).state).toBe('granted');
    expect(await held()).toEqual(['a', 'deploy']);
    await ends[how]?.(task);
    expect([await held(), await allocated()]).toEqual([[], { cpu: 0, licences: 0 }]);
  });

  test('outlives a lost engine, since the task goes on, and is had again by a retry [CONC-08]', async () => {
    const task = await world.task({ requires });
    await claimGrantedAfterEnter(task);
    await db.sql`update engines set lease_until = now() - interval '1 second'`;
    await db.sql`select line_lose_hosts()`;
    expect(await held()).toEqual(['a', 'deploy']);
    await world.engine(10);
    expect((await world.enter(task)).state).toBe('granted');
    await world.line.fail(await claimGranted(task), { code: 'step_failed', message: 'no' }, {});
    await world.line.close(identity(task), failed);
    expect(await held()).toEqual([]);
    await retryTask(db.sql, task.taskId, null);
    const again = { ...task, attempt: 2, runId: 'again', firstRunId: 'again' };
    expect((await world.enter(again)).state).toBe('granted');
    expect(await allocated()).toEqual({ cpu: 2, licences: 1 });
  });

  async function claimGrantedAfterEnter(task: Task) {
    await world.enter(task);
    return claimGranted(task);
  }

  test('is not taken by a grant that nobody answers [CONC-08]', async () => {
    const task = await world.task({ requires });
    await world.enter(task);
    await db.sql`update line set granted_at = granted_at - interval '20 seconds', signals = 2`;
    await db.sql`select line_expire()`;
    expect([await held(), await allocated()]).toEqual([[], { cpu: 0, licences: 0 }]);
  });

  test('that no pool can ever give waits with its reason and keeps nothing for itself; when the pool grows it starts [SCHED-23]', async () => {
    const huge = await world.task({ requires: { cpu_cores: 5 } });
    await world.enter(huge);
    const small = await world.task({ requires: { cpu_cores: 4 } });
    await world.enter(small);
    expect(await decided()).toEqual([small.taskId]);
    expect(await detail(huge)).toBe('waiting_resource');
    await configurePools(db.sql, { cpu: 9 });
    expect(await decided()).toEqual([huge.taskId]);
  });

  test('of machines is there as long as they tell of themselves, and the configuration counts before them [CONC-07]', async () => {
    await configurePools(db.sql, { cpu: 4 });
    for (const machine of ['one', 'two'])
      await tellShares(db.sql, machine, [
        { pool: 'cpu', total: 32, used: 3.5 },
        { pool: 'gpu', total: 2, used: null },
      ]);
    expect(await listResources(db.sql, null)).toMatchObject([
      { pool: 'cpu', total: 4, configured: true },
      { pool: 'gpu', total: 4, used: null, configured: false },
    ]);
    await db.sql`update resource_shares set seen_at = seen_at - interval '40 seconds' where machine = 'one'`;
    expect(await listResources(db.sql, null)).toMatchObject([{ pool: 'cpu' }, { pool: 'gpu', total: 2 }]);
  });
});

test('while no engine tells what its machine has, a task may ask for it, though others hold some [CONC-07]', async () => {
  await world.engine(1);
  await tellShares(db.sql, 'one', [{ pool: 'cpu', total: 4, used: null }]);
  await world.claimed(await world.task({ requires: { cpu_cores: 1 } }));
  expect(await readExceeded(db.sql, { cpu_cores: 5 })).toEqual([{ pool: 'cpu', amount: 5, total: 4 }]);
  await db.sql`update resource_shares set seen_at = seen_at - interval '40 seconds'`;
  expect(await readExceeded(db.sql, { cpu_cores: 5 })).toEqual([]);
});

describe('a large task among small ones', () => {
  beforeEach(async () => {
    await world.engine(10);
    await configurePools(db.sql, { gpu: 2, cpu: 8 });
  });

  test('starts when the small ones before it end; later ones may not take what it lacks, and may take the rest [SCHED-23]', async () => {
    const before = [await world.task({ requires: { gpu_count: 1 } }), await world.task({ requires: { gpu_count: 1 } })];
    const claims = [];
    for (const task of before) claims.push(await world.claimed(task));
    const large = await world.task({ requires: { gpu_count: 2, cpu_cores: 4 } });
    const later = await world.task({ requires: { gpu_count: 1 } });
    const other = await world.task({ requires: { cpu_cores: 4 } });
    const free = await world.task({});
    for (const task of [large, later, other, free]) expect((await world.enter(task)).state).toBe('waiting');
    expect(await decided()).toEqual([other.taskId, free.taskId]);
    await world.line.finish(claims[0] ?? neverClaim(), {}, {});
    expect(await decided()).toEqual([]);
    expect([await detail(large), await detail(later)]).toEqual(['waiting_resource', 'waiting_slot']);
    await world.line.finish(claims[1] ?? neverClaim(), {}, {});
    expect(await decided()).toEqual([large.taskId]);
    expect(await allocated()).toEqual({ cpu: 8, gpu: 2 });
  });

  const onModel = () => planOf(planStep('one', { pool: 'model', model: { name: 'm', numCtx: 1 } }));

  test('keeps what it needs also from one that enters and would be granted at once [SCHED-23]', async () => {
    await world.host();
    await world.claimed(await world.task({ requires: { gpu_count: 1 } }));
    await world.enter(await world.task({ requires: { gpu_count: 2 }, plan: onModel() }));
    expect((await world.enter(await world.task({ requires: { gpu_count: 1 } }))).state).toBe('waiting');
    expect(await decided()).toEqual([]);
  });

  test('whose model no host can serve keeps nothing, and hides no other of its level that keeps what it needs [SCHED-23]', async () => {
    await world.claimed(await world.task({ requires: { gpu_count: 1 } }));
    await world.claimed(await world.task({ requires: { cpu_cores: 1 } }));
    const [unserved, large] = [await world.task({ requires: { gpu_count: 2 }, plan: onModel() }), await world.task({ requires: { cpu_cores: 8 } })];
    const [ofGpu, ofCpu] = [await world.task({ requires: { gpu_count: 1 } }), await world.task({ requires: { cpu_cores: 1 } })];
    for (const task of [unserved, large, ofGpu, ofCpu]) expect((await world.enter(task)).state).toBe('waiting');
    expect(await decided()).toEqual([ofGpu.taskId]);
    expect([await detail(unserved), await detail(large)]).toEqual(['waiting_resource', 'waiting_resource']);
  });

  test('does not hide others behind many that wait for it [SCHED-23]', async () => {
    await world.claimed(await world.task({ requires: { gpu_count: 1 } }));
    await world.enter(await world.task({ requires: { gpu_count: 2 }, exact: 90 }));
    for (let n = 0; n < 30; n += 1) await world.enter(await world.task({ requires: { gpu_count: 1 }, exact: 80 }));
    const free = await world.task({ exact: 10 });
    await world.enter(free);
    expect(await decided()).toEqual([free.taskId]);
  });

  test('keeps nothing while it waits for what a held task has, which is given back when a person says so [SCHED-22, SCHED-23]', async () => {
    const plan = planOf(planStep('one'), planStep('two', { needs: ['one'] }));
    const holder = await world.task({ requires: { gpu_count: 1, locks: ['deploy'] }, plan });
    await world.line.finish(await world.claimed(holder, 'one'), {}, {});
    await holdTask(db.sql, holder.taskId, null, { held: true, by: 'ada' });
    const [large, locked, later] = [
      await world.task({ requires: { gpu_count: 2, cpu_cores: 8 } }),
      await world.task({ requires: { locks: ['deploy', 'other'], cpu_cores: 8 } }),
      await world.task({ requires: { gpu_count: 1, cpu_cores: 1, locks: ['other'] } }),
    ];
    for (const task of [large, locked, later]) await world.enter(task);
    expect(await decided()).toEqual([later.taskId]);
    expect([await detail(large), await detail(locked)]).toEqual(['waiting_resource', 'waiting_lock']);
    // as before, once it goes on
    await holdTask(db.sql, holder.taskId, null, { held: false, by: 'ada' });
    await world.enter(await world.task({ requires: { cpu_cores: 1 } }));
    expect(await decided()).toEqual([]);
  });
});

function neverClaim(): never {
  throw new Error('expected a claim');
}

test('ten thousand tasks that wait for one lock, or for a pool, do not hold up a decision for those behind them [SCHED-23, PERF-06]', async () => {
  await world.engine(4);
  await configurePools(db.sql, { gpu: 1 });
  await world.claimed(await world.task({ requires: { locks: ['one'], gpu_count: 1 } }));
  for (const [locks, amounts] of [
    [['one'], null],
    [[], { gpu: 1 }],
  ] as const)
    await db.sql`
      with made as (
        insert into tasks (name, type, priority, user_id, template, template_hash, plan) select 'w', 'test', 80, 'ada', 'test', 'x', '{"steps": []}' from generate_series(1, 5000) returning id, pos)
      insert into line (task_id, attempt, step, try, step_attempt, run_id, pool, level, exact, pos, locks, amounts)
      select id, 1, 'one', 1, 1, 'r', 'general', 8, 80, pos, ${locks as unknown as string[]}, ${amounts === null ? null : db.sql.json(amounts)} from made`;
  await db.sql`analyze line`;
  const free = await world.task({ exact: 10 });
  await world.enter(free);
  const times: number[] = [];
  for (let round = 0; round < 5; round += 1) {
    const startedMs = performance.now();
    await db.sql`select decide_read(${defaultMaxWaitsMs as number[]}::double precision[])`;
    times.push(performance.now() - startedMs);
  }
  console.log(`a snapshot past 10,000 steps that lack something: ${Math.min(...times).toFixed(1)} ms`);
  await world.engine(4); // its lease has not got longer
  expect(await decided()).toEqual([free.taskId]);
});

describe('a lock that a running task takes', () => {
  beforeEach(() => world.engine(20));
  const running = async (fields: Parameters<typeof world.task>[0] = {}) => {
    const task = await world.task(fields);
    return { task, claim: await world.claimed(task) };
  };

  test('of 100 racers one has it, and only that one gives it back [CONC-01]', async () => {
    const tasks = [];
    await world.engine(100);
    for (let n = 0; n < 100; n += 1) tasks.push((await running()).task);
    const answers = await Promise.all(tasks.map(({ taskId }) => acquireLock(db.sql, 'race', taskId, anybody)));
    const winners = tasks.filter((_, index) => answers[index]?.outcome === 'acquired');
    expect(winners).toHaveLength(1);
    const [winner] = winners;
    expect(answers.filter(({ outcome }) => outcome === 'refused')).toEqual(Array(99).fill({ outcome: 'refused', holder: winner?.taskId }));
    for (const { taskId } of tasks) if (taskId !== winner?.taskId) expect(await releaseLock(db.sql, 'race', taskId, null)).toBe('not_held');
    expect(await held()).toEqual(['race']);
    expect(await acquireLock(db.sql, 'race', winner?.taskId ?? '', anybody)).toMatchObject({ outcome: 'acquired' });
    expect(await releaseLock(db.sql, 'race', winner?.taskId ?? '', null)).toBe('released');
    expect(await held()).toEqual([]);
  });

  test('is refused to tasks that do not run, and to others’ tasks; there is a highest number [CONC-01]', async () => {
    const queued = await world.task();
    expect(await acquireLock(db.sql, 'x', queued.taskId, anybody)).toEqual({ outcome: 'not_running', status: 'queued' });
    const { task } = await running();
    expect(await acquireLock(db.sql, 'x', task.taskId, { ...anybody, owner: 'eve' })).toEqual({ outcome: 'not_found' });
    expect(await releaseLock(db.sql, 'x', task.taskId, 'eve')).toBe('not_found');
    for (let n = 0; n < 20; n += 1) expect(await acquireLock(db.sql, `l${n}`, task.taskId, anybody)).toMatchObject({ outcome: 'acquired' });
    expect(await acquireLock(db.sql, 'one-more', task.taskId, anybody)).toEqual({ outcome: 'too_many' });
  });

  test('that was needed from the start is kept to the end [CONC-01]', async () => {
    const { task } = await running({ requires: { locks: ['mine'] } });
    expect(await releaseLock(db.sql, 'mine', task.taskId, null)).toBe('not_held');
    expect(await held()).toEqual(['mine']);
  });

  test('is kept for a task that waits for it, before those in the line; a wish that is not repeated is forgotten [CONC-01, CONC-02]', async () => {
    const [holder, wishes] = [await running(), await running()];
    await acquireLock(db.sql, 'x', holder.task.taskId, anybody);
    expect(await acquireLock(db.sql, 'x', wishes.task.taskId, waiter)).toEqual({ outcome: 'refused', holder: holder.task.taskId });
    const inLine = await world.task({ requires: { locks: ['x'] }, exact: 100 });
    await world.enter(inLine);
    expect(await releaseLock(db.sql, 'x', holder.task.taskId, null)).toBe('released');
    expect(await decided()).toEqual([]);
    await db.sql`update lock_wishes set asked_at = asked_at - interval '31 seconds'`;
    expect(await decided()).toEqual([inLine.taskId]);
  });

  test('goes with the end of the task [CONC-08]', async () => {
    const [holder, wishes] = [await running(), await running()];
    await acquireLock(db.sql, 'x', holder.task.taskId, anybody);
    await acquireLock(db.sql, 'x', wishes.task.taskId, waiter);
    await world.line.finish(wishes.claim, {}, {});
    await world.line.finish(holder.claim, {}, {});
    expect([await held(), await db.sql`select * from lock_wishes`]).toEqual([[], []]);
  });
});

describe('a deadlock', () => {
  beforeEach(() => world.engine(4));

  async function crossed() {
    const low = await world.task({ exact: 40, requires: { locks: ['a'] }, plan: planOf(planStep('one')) });
    const high = await world.task({ exact: 60, requires: { locks: ['b'] } });
    const claims = { low: await world.claimed(low), high: await world.claimed(high) };
    await acquireLock(db.sql, 'b', low.taskId, waiter);
    await acquireLock(db.sql, 'a', high.taskId, waiter);
    const waits = await readWaits(db.sql);
    const [deadlock] = findDeadlocks(waits?.tasks ?? [], waits?.totals ?? {});
    if (!deadlock) throw new Error('expected a deadlock');
    return { low, high, claims, deadlock };
  }

  test('is seen, and its member of lowest priority gives way: stopped, queued again with all that it wanted, and not an attempt later [CONC-05, CONC-06]', async () => {
    const { low, high, claims, deadlock } = await crossed();
    expect(deadlock).toMatchObject({ members: [high.taskId, low.taskId], victim: low.taskId });
    expect(await giveWay(db.sql, deadlock, 'why')).toBe(true);
    expect(await giveWay(db.sql, deadlock, 'why')).toBe(false);
    // its step still stops, so the lock is nobody else's yet
    expect(await settleGivenWays(db.sql)).toBe(1);
    expect(await acquireLock(db.sql, 'a', high.taskId, waiter)).toMatchObject({ outcome: 'refused' });
    await world.line.fail(claims.low, { code: 'GrantReturned', message: 'gave way' }, {});
    expect((await world.enter(low)).state).toBe('waiting');
    expect(await decided()).toEqual([]);
    expect(await settleGivenWays(db.sql)).toBe(0);
    expect(await world.taskRow(low.taskId)).toMatchObject({ status: 'queued', attempt: 1, started_at: null });
    expect(await acquireLock(db.sql, 'a', high.taskId, waiter)).toMatchObject({ outcome: 'acquired' });
    expect(await decided()).toEqual([]);
    expect(await detail(low)).toBe('waiting_lock');
    await world.line.finish(claims.high, {}, {});
    expect(await decided()).toEqual([low.taskId]);
    expect(await held()).toEqual(['a', 'b']);
    expect(await world.events(low.taskId)).toEqual(expect.arrayContaining(['deadlock', 'gave_way']));
    expect(await world.events(high.taskId)).toContain('deadlock');
    expect(await db.sql`select task_id, output_data ->> 'reason' as reason from orchestration_decisions where decision_type = 'deadlock'`).toEqual([
      { task_id: low.taskId, reason: 'why' },
    ]);
    expect(await readWaits(db.sql)).toBeNull();
  });

  test('tells the owners of its members of each other no more than that there are others [CONC-05]', async () => {
    const { low, high, deadlock } = await crossed();
    await db.sql`update tasks set user_id = 'another' where id = ${high.taskId}`;
    await giveWay(db.sql, deadlock, 'why');
    const told = await db.sql<{ taskId: string; data: object }[]>`select task_id as "taskId", data from task_events where kind = 'deadlock'`;
    const to = (task: Task) => told.find(({ taskId }) => taskId === task.taskId)?.data;
    expect(to(low)).toMatchObject({ members: [null, low.taskId], gives_way: low.taskId, reason: 'why' });
    expect(to(high)).toMatchObject({ members: [high.taskId, null], gives_way: null });
    expect(JSON.stringify(to(low))).not.toContain(high.taskId);
    expect(JSON.stringify(to(high))).not.toContain(low.taskId);
    expect(to(low)).toMatchObject({ waits: expect.arrayContaining([{ task_id: low.taskId, holder: null, what: 'lock b' }]) });
  });

  test('once resolved is not begun anew by the task that gave way, which gets its locks all at once or none [CONC-06]', async () => {
    const done = await world.task({ exact: 40, requires: { locks: ['a'] }, plan: chain(planStep('one'), planStep('two')) });
    const high = await world.task({ exact: 60, requires: { locks: ['b'] } });
    await world.line.finish(await world.claimed(done, 'one'), {}, {});
    const claim = await world.claimed(done, 'two');
    const highClaim = await world.claimed(high);
    await acquireLock(db.sql, 'b', done.taskId, waiter);
    await acquireLock(db.sql, 'a', high.taskId, waiter);
    const waits = await readWaits(db.sql);
    for (const deadlock of findDeadlocks(waits?.tasks ?? [], {})) expect(await giveWay(db.sql, deadlock, 'why')).toBe(true);
    await world.line.fail(claim, { code: 'GrantReturned', message: 'gave way' }, {});
    await world.enter(done, 'two');
    await settleGivenWays(db.sql);
    expect(await world.taskRow(done.taskId)).toMatchObject({ status: 'running' });
    for (const name of ['a', 'b', 'c']) expect(await acquireLock(db.sql, name, done.taskId, waiter)).toEqual({ outcome: 'refused', holder: null });
    expect(await acquireLock(db.sql, 'a', high.taskId, waiter)).toMatchObject({ outcome: 'acquired' });
    expect(await decided()).toEqual([]);
    await world.line.finish(highClaim, {}, {});
    expect(await decided()).toEqual([done.taskId]);
    expect(await held()).toEqual(['a', 'b']);
  });

  test('once resolved gives the task that gave way no lock before it is in the line again, where one would count as all of them [CONC-02, CONC-06]', async () => {
    const low = await world.task({ exact: 40, plan: chain(planStep('one'), planStep('two')) });
    const high = await world.task({ exact: 60 });
    await world.line.finish(await world.claimed(low, 'one'), {}, {});
    const claim = await world.claimed(low, 'two');
    await world.claimed(high);
    await acquireLock(db.sql, 'a', low.taskId, waiter);
    await acquireLock(db.sql, 'b', high.taskId, waiter);
    await acquireLock(db.sql, 'b', low.taskId, waiter);
    await acquireLock(db.sql, 'a', high.taskId, waiter);
    const waits = await readWaits(db.sql);
    for (const deadlock of findDeadlocks(waits?.tasks ?? [], {})) expect(await giveWay(db.sql, deadlock, 'why')).toBe(true);
    await world.line.fail(claim, { code: 'GrantReturned', message: 'gave way' }, {});
    expect(await settleGivenWays(db.sql)).toBe(0);
    expect(await world.taskRow(low.taskId)).toMatchObject({ status: 'running' });
    expect(await acquireLock(db.sql, 'c', low.taskId, waiter)).toEqual({ outcome: 'refused', holder: null });
    expect(await acquireLock(db.sql, 'a', high.taskId, waiter)).toMatchObject({ outcome: 'acquired' });
    expect((await world.enter(low, 'two')).state).toBe('waiting');
    expect(await decided()).toEqual([]);
    expect(await held()).toEqual(['a', 'b']);
  });

  test('is told again to who runs the steps of the one that gives way, for as long as they run [CONC-06]', async () => {
    const { low, claims, deadlock } = await crossed();
    expect(await giveWay(db.sql, deadlock, 'why')).toBe(true); // which nobody hears
    const told: string[] = [];
    const listening = await db.sql.listen('cancel', (payload) => told.push(payload));
    expect(await settleGivenWays(db.sql)).toBe(1);
    await eventually(() => told.length > 0);
    expect(told).toEqual([`${low.taskId} gives way`]);
    await world.line.fail(claims.low, { code: 'GrantReturned', message: 'gave way' }, {});
    expect(await settleGivenWays(db.sql)).toBe(0);
    await listening.unlisten();
  });

  test('that ended by itself meanwhile stops nobody [CONC-06]', async () => {
    const { low, high, claims, deadlock } = await crossed();
    await world.line.finish(claims.high, {}, {});
    expect(await acquireLock(db.sql, 'b', low.taskId, waiter)).toMatchObject({ outcome: 'acquired' });
    expect(await giveWay(db.sql, deadlock, 'why')).toBe(false);
    expect(high.attempt).toBe(1);
  });

  test('whose victim ends on its own while it is stopped leaves nothing behind [CONC-06, CONC-08]', async () => {
    const { claims, deadlock } = await crossed();
    await giveWay(db.sql, deadlock, 'why');
    await world.line.finish(claims.low, {}, {});
    expect(await settleGivenWays(db.sql)).toBe(0);
    expect(await held()).toEqual(['b']);
    expect(await readWaits(db.sql)).toMatchObject({ givingWay: 0 });
  });
});
