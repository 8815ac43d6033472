import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { restoreTask } from '../../../db/checkpoints.js';
import { decideOnce } from '../../../db/decide.js';
import { checkInvariants } from '../../../db/invariants.js';
import { holdTask, moveTask, setPriority } from '../../../db/moves.js';
import { compareWaiting, defaultMaxWaitsMs } from '../../../scheduling/waiting-order.js';
import { planOf, planStep } from '../../support/plans.js';
import { createTestDatabase, eventually, type TestDatabase } from '../../support/servers.js';
import { createWorld, engine, identity, policy } from './line-world.js';

let db: TestDatabase;
let world: ReturnType<typeof createWorld>;

beforeAll(async () => {
  db = await createTestDatabase();
  world = createWorld(db.sql);
});
afterAll(() => db.drop());
beforeEach(() => world.empty());
afterEach(async () => expect(await checkInvariants(db.sql)).toEqual([]));

interface Moved {
  readonly taskId: string;
}

interface Place {
  readonly version?: number | null;
  readonly owner?: string | null;
}
const before = (task: Moved, neighbour: Moved, { version = null, owner = null }: Place = {}) =>
  moveTask(db.sql, task.taskId, owner, { side: 'before', neighbour: neighbour.taskId, version });
const after = (task: Moved, neighbour: Moved, { version = null, owner = null }: Place = {}) =>
  moveTask(db.sql, task.taskId, owner, { side: 'after', neighbour: neighbour.taskId, version });

/** Tasks of the given exact values, with their first step in the line. */
async function waiting(...exacts: readonly number[]) {
  const tasks = [];
  for (const exact of exacts) tasks.push(await world.task({ exact }));
  for (const task of tasks) await world.enter(task);
  return tasks;
}

/** Ids of the tasks whose steps wait, in the order in which they start, so many milliseconds from now. */
async function order(inMs = 0): Promise<string[]> {
  const rows = await db.sql<{ id: string; level: number; exact: number; waited: number }[]>`
    select task_id as id, level, exact, extract(epoch from clock_timestamp() - entered_at)::float * 1000 as waited from line where state = 'waiting' order by pos, id`;
  return rows
    .map(({ id, level, exact, waited }, place) => ({ id, level, exact, place, waitedMs: waited + inMs }))
    .sort((a, b) => compareWaiting(a, b, defaultMaxWaitsMs))
    .map(({ id }) => id);
}
const agoes = (task: Moved, minutes: number) =>
  db.sql`update line set entered_at = clock_timestamp() - ${minutes} * interval '1 minute' where task_id = ${task.taskId}`;
const version = async () => Number((await db.sql`select version from queue_state`)[0]?.['version']);

describe('a move', () => {
  test('is exact among equals, across levels, and from one end of the line to the other [SCHED-22]', async () => {
    const tasks = await waiting(50, 50, 50, 80, 20);
    const [a, b, c, high, low] = tasks as unknown as readonly [Moved, Moved, Moved, Moved, Moved];
    expect(await before(c, a)).toMatchObject({ outcome: 'changed' });
    expect(await order()).toEqual([high, c, a, b, low].map(({ taskId }) => taskId));
    expect(await before(low, high)).toMatchObject({ outcome: 'changed' });
    expect(await after(high, b)).toMatchObject({ outcome: 'changed' });
    expect(await order()).toEqual([low, c, a, b, high].map(({ taskId }) => taskId));
    expect(await world.taskRow(low.taskId)).toMatchObject({ priority: 80 });
    const late = await waiting(50);
    expect((await order()).at(-1)).toBe(late[0]?.taskId);
  });

  test('holds among raised steps, now and however long both wait [SCHED-22]', async () => {
    // Raised ones stand by place whatever their exact value, so that between two of one value there may be others.
    const [old, other, fresh] = (await waiting(41, 45, 50)) as unknown as readonly [Moved, Moved, Moved];
    await agoes(old, 20);
    await agoes(other, 20);
    for (const move of [before, after]) {
      await move(fresh, old);
      for (const inMs of [0, 5, 20, 60, 240].map((minutes) => minutes * 60_000)) {
        const ids = await order(inMs);
        expect(ids.indexOf(fresh.taskId) - ids.indexOf(old.taskId)).toBe(move === before ? -1 : 1);
      }
    }
  });

  test('holds for a task whose first step enters the line only afterwards [SCHED-22]', async () => {
    const [old] = await waiting(50);
    if (old === undefined) throw new Error('no task');
    await agoes(old, 30);
    const late = await world.task({ exact: 20 });
    expect(await before(late, old)).toMatchObject({ outcome: 'changed' });
    await world.enter(late);
    expect(await order()).toEqual([late.taskId, old.taskId]);
    const [row] =
      await db.sql`select (select entered_at from line where task_id = ${late.taskId}) = (select entered_at from line where task_id = ${old.taskId}) as same`;
    expect(row).toEqual({ same: true });
  });

  test('holds for a task whose dependencies complete only afterwards [SCHED-22]', async () => {
    const parent = await world.task();
    const child = await world.task({ after: [parent.taskId] });
    await world.enter(child);
    const [old] = await waiting(50);
    if (old === undefined) throw new Error('no task');
    await agoes(old, 30);
    await before(child, old);
    await world.line.close(identity(parent), { status: 'completed', error: null });
    expect(await order()).toEqual([child.taskId, old.taskId]);
  });

  test('a later step of a moved task waits from its own entry on', async () => {
    await world.engine(1);
    const old = await world.task();
    const moved = await world.task({ plan: planOf(planStep('one'), planStep('two', { needs: ['one'] })) });
    const first = await world.claimed(await world.task());
    await world.enter(old);
    await world.enter(moved, 'one');
    await agoes(old, 30);
    await before(moved, old);
    await world.line.finish(first, {}, {});
    const decided = await decideOnce(db.sql, policy);
    const grant = decided === 'busy' ? undefined : decided.granted[0]?.grant;
    if (grant === undefined) throw new Error('no grant');
    expect(await world.line.claim(grant, engine)).toMatchObject({ taskId: moved.taskId });
    await world.enter(moved, 'two');
    const [row] = await db.sql`select entered_at > clock_timestamp() - interval '1 minute' as fresh from line where task_id = ${moved.taskId} and step = 'two'`;
    expect(row).toEqual({ fresh: true });
  });

  test('any moves, one after the other, give the order of a list in which they are made [SCHED-22]', async () => {
    const move = fc.record({ task: fc.nat(5), neighbour: fc.nat(5), side: fc.constantFrom('before' as const, 'after' as const) });
    await fc.assert(
      fc.asyncProperty(fc.array(fc.constantFrom(10, 50, 51, 90), { minLength: 6, maxLength: 6 }), fc.array(move, { maxLength: 15 }), async (exacts, moves) => {
        await world.empty();
        const tasks = await waiting(...exacts);
        const expected = await order();
        for (const { task, neighbour, side } of moves) {
          const [id, other] = [tasks[task]?.taskId ?? '', tasks[neighbour]?.taskId ?? ''];
          if (id === other) continue;
          await moveTask(db.sql, id, null, { side, neighbour: other, version: null });
          expected.splice(expected.indexOf(id), 1);
          expected.splice(expected.indexOf(other) + (side === 'after' ? 1 : 0), 0, id);
          expect(await order()).toEqual(expected);
        }
      }),
      { numRuns: 15 },
    );
  });

  test('places stay short after thousands of moves between the same two, and the order exact [SCHED-22]', async () => {
    const tasks = await waiting(50, 50, 50, 50);
    const [first, last, ...moving] = tasks.map(({ taskId }) => ({ taskId }));
    if (first === undefined || last === undefined) throw new Error('no tasks');
    for (let round = 0; round < 1_500; round += 1) {
      await after(moving[round % 2] as Moved, first);
      if (round % 3 === 0) await before(moving[(round + 1) % 2] as Moved, last);
    }
    const [longest] = await db.sql`select max(scale(pos)) as digits, count(distinct pos)::integer as places from tasks`;
    expect(longest?.['digits']).toBeLessThanOrEqual(60);
    expect(longest?.['places']).toBe(4);
    expect(await order()).toEqual([first, moving[1], moving[0], last].map((task) => task?.taskId));
  });

  test('many tasks go to one place, and those that moved before keep their order [SCHED-22]', async () => {
    const tasks = await waiting(...Array.from({ length: 300 }, () => 50));
    const [first, ...others] = tasks.map(({ taskId }) => ({ taskId }));
    if (first === undefined) throw new Error('no tasks');
    for (const task of others) await after(task, first);
    expect(await order()).toEqual([first, ...others.toReversed()].map(({ taskId }) => taskId));
    const [longest] = await db.sql`select max(scale(pos)) as digits from tasks`;
    expect(longest?.['digits']).toBeLessThanOrEqual(60);
  });

  test('two moves to one place at the same time give both a place of their own [SCHED-22]', async () => {
    const tasks = await waiting(...Array.from({ length: 12 }, () => 50));
    const [first, ...others] = tasks;
    if (first === undefined) throw new Error('no tasks');
    const done = await Promise.all(others.map((task) => before(task, first)));
    expect(new Set(done.map(({ outcome }) => outcome))).toEqual(new Set(['changed']));
    expect((await order()).at(-1)).toBe(first.taskId);
    const [places] = await db.sql`select count(distinct pos)::integer as places from tasks`;
    expect(places).toEqual({ places: 12 });
  });

  test('what has ended or begun is not moved, and nothing is placed beside it [SCHED-22]', async () => {
    await world.engine(1);
    const [running, ended, waits] = [await world.task(), await world.task(), await world.task()];
    await world.claimed(running);
    await world.line.close(identity(ended), { status: 'failed', error: { code: 'x', message: 'x', step: null, attempt: 1 } });
    await world.enter(waits);
    expect(await after(running, waits)).toEqual({ outcome: 'started' });
    expect(await after(ended, waits)).toEqual({ outcome: 'finished', status: 'failed' });
    for (const gone of [running, ended]) expect(await after(waits, gone)).toEqual({ outcome: 'neighbour_gone' });
    expect(await after(waits, waits)).toEqual({ outcome: 'neighbour_unknown' });
  });

  test('a task that runs is moved by the step of it that waits [SCHED-21, SCHED-22]', async () => {
    await world.engine(1);
    const two = await world.task({ plan: planOf(planStep('one'), planStep('two')), exact: 20 });
    await world.claimed(two, 'one');
    const [other] = await waiting(50);
    await world.enter(two, 'two');
    expect(await before(two, other as Moved)).toMatchObject({ outcome: 'changed' });
    expect(await order()).toEqual([two.taskId, other?.taskId]);
    const [row] = await db.sql`select exact from line where task_id = ${two.taskId} and step = 'one'`;
    expect(row).toEqual({ exact: 20 });
  });

  test('is refused where somebody has placed one of the two since the queue was seen, and only there [SCHED-22]', async () => {
    const [a, b, c, d] = (await waiting(50, 50, 50, 50)) as unknown as readonly [Moved, Moved, Moved, Moved];
    const seen = await version();
    await setPriority(db.sql, d.taskId, null, 90);
    expect(await before(c, a, { version: seen })).toMatchObject({ outcome: 'changed' });
    expect(await before(b, c, { version: seen })).toEqual({ outcome: 'changed_meanwhile' });
    expect(await before(c, b, { version: seen })).toEqual({ outcome: 'changed_meanwhile' });
    expect(await before(b, c, { version: await version() })).toMatchObject({ outcome: 'changed' });
  });

  test('a user moves own tasks beside own tasks, and overtakes nothing that the highest priority would not overtake [SCHED-22, SEC-03]', async () => {
    const task = (user: string, exact: number) => world.task({ user, exact });
    const [mine, foreign, top, theirs, late] = [
      await task('ann', 50),
      await task('bob', 50),
      await task('ann', 100),
      await task('bob', 100),
      await task('ann', 60),
    ];
    for (const each of [mine, foreign, top, theirs, late]) await world.enter(each);
    expect(await before(foreign, mine, { owner: 'ann' })).toEqual({ outcome: 'not_found' });
    expect(await before(mine, foreign, { owner: 'ann' })).toEqual({ outcome: 'neighbour_unknown' });
    expect(await before(late, mine, { owner: 'ann' })).toMatchObject({ outcome: 'changed' });
    // priority 10 would put it behind theirs, which came first
    const after10 = await task('ann', 60);
    await world.enter(after10);
    expect(await after(after10, top, { owner: 'ann' })).toEqual({ outcome: 'overtakes' });
    expect(await after(after10, top)).toMatchObject({ outcome: 'changed' });
  });

  test('gives a user no place among the most urgent that arrival would not give, in however many steps [SCHED-22, SEC-03]', async () => {
    const task = (user: string, exact: number) => world.task({ user, exact });
    const [decoy, first, second, late, later] = [
      await task('ann', 50),
      await task('bob', 100),
      await task('bob', 100),
      await task('ann', 50),
      await task('ann', 50),
    ];
    for (const each of [decoy, first, second, late, later]) await world.enter(each);
    const ids = (...tasks: readonly Moved[]) => tasks.map(({ taskId }) => taskId);
    // first the place, while nobody minds, and then the priority: as far forward as without the move
    expect(await before(late, decoy, { owner: 'ann' })).toMatchObject({ outcome: 'changed' });
    await setPriority(db.sql, late.taskId, 'ann', 100);
    expect(await order()).toEqual(ids(first, second, late, decoy, later));
    // or a place before its own old task, whose priority is given to both
    expect(await before(later, decoy, { owner: 'ann' })).toMatchObject({ outcome: 'changed' });
    await setPriority(db.sql, decoy.taskId, 'ann', 100);
    expect(await after(later, decoy, { owner: 'ann' })).toEqual({ outcome: 'overtakes' });
    await setPriority(db.sql, later.taskId, 'ann', 100);
    expect(await order()).toEqual(ids(decoy, first, second, late, later));
  });

  test('to a place that an administrator gave is one that the highest priority keeps', async () => {
    const [first, second, chosen] = await waiting(100, 100, 50);
    await db.sql`update tasks set user_id = 'bob' where id = any(${[first?.taskId ?? '', second?.taskId ?? '']}::uuid[])`;
    await before(chosen as Moved, first as Moved);
    await setPriority(db.sql, chosen?.taskId ?? '', 'ada', 30);
    await setPriority(db.sql, chosen?.taskId ?? '', 'ada', 100);
    expect((await order())[0]).toBe(chosen?.taskId);
  });

  test('back to the place of a checkpoint where another task stands by now leaves both a place of their own [SCHED-22, DUR-03]', async () => {
    const [one, two, here, there, next] = await waiting(50, 50, 50, 50, 50);
    for (const task of [one, two, here, there, next]) if (task === undefined) throw new Error('no task');
    await after(here as Moved, one as Moved);
    const [kept] = await db.sql<{ pos: string }[]>`select pos::text from tasks where id = ${here?.taskId ?? ''}`;
    await after(here as Moved, two as Moved);
    await after(there as Moved, one as Moved);
    await restoreTask(db.sql, { task_id: here?.taskId ?? '', exact: 50, pos: kept?.pos ?? '' });
    const places = await db.sql<{ pos: string }[]>`select distinct pos::text from line where state = 'waiting'`;
    expect(places).toHaveLength(5);
    await before(next as Moved, there as Moved);
    const now = await order();
    expect(now.indexOf(there?.taskId ?? '') - now.indexOf(next?.taskId ?? '')).toBe(1);
  });

  test('and a restored checkpoint lock in the same order, so that neither stops the other [SCHED-22, DUR-03]', async () => {
    const [task] = await waiting(50);
    const id = task?.taskId ?? '';
    let restored: Promise<unknown> | undefined;
    await db.sql.begin(async (tx) => {
      await tx`select queue_lock()`;
      restored = restoreTask(db.sql, { task_id: id, exact: 70, pos: '0.5' });
      await eventually(async () => {
        const [waits] = await db.sql`select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
        return waits !== undefined;
      });
      await tx`select 1 from tasks where id = ${id} for no key update nowait`;
    });
    expect(await restored).toBe('moved');
  });
});

describe('a hold', () => {
  test('keeps what waits of a task from its grant until it is released, and may be repeated [SCHED-22]', async () => {
    const [held] = await waiting(50);
    if (held === undefined) throw new Error('no task');
    for (const outcome of ['held', 'unchanged']) expect(await holdTask(db.sql, held.taskId, 'ada', { held: true, by: 'ada' })).toEqual({ outcome });
    await world.engine(1);
    expect(await decideOnce(db.sql, policy)).toMatchObject({ granted: [] });
    for (const outcome of ['released', 'unchanged']) expect(await holdTask(db.sql, held.taskId, 'ada', { held: false, by: 'ada' })).toEqual({ outcome });
    expect(await decideOnce(db.sql, policy)).toMatchObject({ granted: [{ workflowId: `task-${held.taskId}` }] });
    expect(await world.events(held.taskId)).toEqual(['held', 'released']);
  });

  test('counts for steps that enter the line later; what runs goes on [SCHED-22]', async () => {
    await world.engine(2);
    const task = await world.task({ plan: planOf(planStep('one'), planStep('two')) });
    const claim = await world.claimed(task, 'one');
    await holdTask(db.sql, task.taskId, null, { held: true, by: 'root' });
    expect((await world.enter(task, 'two')).state).toBe('waiting');
    expect(await decideOnce(db.sql, policy)).toMatchObject({ granted: [] });
    expect(await world.line.finish(claim, {}, {})).not.toBeNull();
  });

  test('nobody holds another one’s task, nor one that has ended [SEC-03]', async () => {
    const task = await world.task();
    expect(await holdTask(db.sql, task.taskId, 'bob', { held: true, by: 'bob' })).toEqual({ outcome: 'not_found' });
    await world.line.close(identity(task), { status: 'completed', error: null });
    expect(await holdTask(db.sql, task.taskId, null, { held: true, by: 'root' })).toEqual({ outcome: 'finished', status: 'completed' });
  });
});
