import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { pino } from 'pino';
import { connect, disconnect, type Sql } from '../../../db/connect.js';
import { decideOnce } from '../../../db/decide.js';
import { readLearned } from '../../../db/durations.js';
import { readForecast } from '../../../db/forecasts.js';
import { configurePools } from '../../../db/holds.js';
import { cancelTask, setPriority } from '../../../db/moves.js';
import { createForecaster } from '../../../engine/forecast.js';
import { clockSetBack } from '../../support/clock-set-back.js';
import { createTestDatabase, eventually, type TestDatabase } from '../../support/servers.js';
import { chain, planStep } from '../../support/plans.js';
import { createWorld, engine, identity, key, modelStep, policy } from '../db/line-world.js';

let database: TestDatabase;
let sql: Sql;
let world: ReturnType<typeof createWorld>;
beforeAll(async () => {
  database = await createTestDatabase();
  sql = connect(database.url, { applicationName: 'forecast-test' });
  world = createWorld(sql);
});
afterAll(async () => {
  await disconnect(sql);
  await database.drop();
});
beforeEach(async () => {
  await world.empty();
  await sql`truncate forecasts, forecast_promises, forecast_stretch, duration_stats`;
});

const forecaster = () => createForecaster({ sql, everyMs: 0, log: pino({ level: 'silent' }) });
const plan = chain(modelStep('one'));
/** Tasks that wait, in the order of the forecast. */
async function order(): Promise<string[]> {
  const entries = (await readForecast(sql))?.entries ?? [];
  return entries.filter(({ position }) => position !== null).map(({ task_id: id }) => id);
}

describe('the forecast loop', () => {
  test('says the order in which a queue on one model starts, and follows a change of priority [PRED-12, SCHED-22]', async () => {
    await world.host({ serving: [key] });
    const gate = await world.task({ plan });
    const claim = await world.claimed(gate);
    const tasks = [];
    for (const exact of [50, 80, 50, 20, 80]) {
      const task = await world.task({ plan, exact });
      await world.enter(task);
      tasks.push(task);
    }
    const ids = tasks.map(({ taskId }) => taskId);
    const forecast = forecaster();
    await forecast.run();
    expect(await order()).toEqual([ids[1], ids[4], ids[0], ids[2], ids[3]]);
    const stored = await readForecast(sql);
    expect(stored?.entries[0]).toMatchObject({ task_id: gate.taskId, position: null, why: null, host: 'host-1' });
    expect(stored?.entries[1]).toMatchObject({ step: 'one', key, host: 'host-1', why: 'waiting_slot' });
    const starts = stored?.entries.slice(1).map(({ start_ms: ms }) => ms as number) ?? [];
    expect([...starts].sort((a, b) => a - b)).toEqual(starts);

    await setPriority(sql, ids[3] as string, null, 100);
    forecast.changed();
    await forecast.run();
    const expected = await order();
    expect(expected[0]).toBe(ids[3]);

    const started: string[] = [];
    let running = claim;
    while (started.length < ids.length) {
      await world.line.finish(running, { text: 'done' }, {});
      const decided = await decideOnce(sql, policy);
      const grant = decided === 'busy' ? undefined : decided.granted[0]?.grant;
      const next = grant && (await world.line.claim(grant, engine));
      if (!next) throw new Error('nothing was granted');
      started.push(next.taskId);
      running = next;
    }
    expect(started).toEqual(expected);
  });

  test('a task of several steps is expected to end with its last one, and those that wait for it after that [TASK-04, SCHED-07]', async () => {
    await world.engine(1);
    await world.host({ serving: [key] });
    const first = await world.task({ plan: chain(planStep('prepare'), modelStep('ask'), modelStep('again')) });
    const second = await world.task({ plan, after: [first.taskId] });
    await world.enter(first);
    await world.enter(second);
    await forecaster().run();
    const [one, two] = (await readForecast(sql))?.entries ?? [];
    expect(one).toMatchObject({ task_id: first.taskId, step: 'prepare', position: null });
    expect(two).toMatchObject({ task_id: second.taskId, why: 'waiting_dependency', position: 1 });
    expect(one?.done_ms).toBeGreaterThan(one?.finish_ms as number);
    expect(two?.start_ms).toBeGreaterThanOrEqual((one?.done_ms as number) * 0.9);
  });

  test('nothing is told of what a person holds, and no step is predicted on a paused line [SCHED-22]', async () => {
    await world.host({ serving: [key] });
    await world.claimed(await world.task({ plan }));
    const [held, paused] = [await world.task({ plan }), await world.task({ plan })];
    await world.enter(held);
    await world.enter(paused);
    await sql`update tasks set held_at = now() where id = ${held.taskId}`;
    const forecast = forecaster();
    await forecast.run();
    const find = async (id: string) => (await readForecast(sql))?.entries.find(({ task_id: task }) => task === id);
    expect(await find(held.taskId)).toMatchObject({ why: 'held', start_ms: null, done_ms: null, position: null });
    expect(await find(paused.taskId)).toMatchObject({ why: 'waiting_slot', position: 1 });
    await sql`insert into queue_pauses (scope) values ('queue')`;
    forecast.changed();
    await forecast.run();
    expect(await find(paused.taskId)).toMatchObject({ why: 'paused', start_ms: null });
    await sql`delete from queue_pauses`;
  });

  test('tasks start when those before them give back what they need; one for whom nothing is kept says so [SCHED-23, TASK-04]', async () => {
    await world.engine(10);
    await configurePools(sql, { gpu: 2 });
    const ofGpus = (count: number) => world.task({ plan: chain(planStep('one')), requires: { gpu_count: count } });
    await world.claimed(await ofGpus(1));
    const [large, small] = [await ofGpus(2), await ofGpus(1)];
    await world.enter(large);
    await world.enter(small);
    expect(await decideOnce(sql, policy)).toMatchObject({ granted: [] });
    await forecaster().run();
    const [holder, first, second] = (await readForecast(sql))?.entries ?? [];
    expect([first, second]).toMatchObject([
      { task_id: large.taskId, why: 'waiting_resource' },
      { task_id: small.taskId, why: 'reserved' },
    ]);
    expect(first?.start_ms).toBeGreaterThanOrEqual(holder?.done_ms as number);
    expect(second?.start_ms).toBeGreaterThanOrEqual(first?.done_ms as number);
  });

  test('durations are learned from the steps that ended, each once whoever learns, and predictions are judged [PRED-12]', async () => {
    await world.host({ serving: [key] });
    const run = await world.task({ plan });
    const claim = await world.claimed(run);
    const next = await world.task({ plan });
    await world.enter(next);
    const given = await world.task({ plan });
    await world.enter(given);
    const [one, other] = [forecaster(), forecaster()];
    await one.run();
    expect((await sql`select 1 from forecast_promises where task_id = ${given.taskId}`).count).toBe(1);
    await cancelTask(sql, given.taskId, null);
    await world.line.close(identity(given), { status: 'cancelled', error: null });
    await world.line.finish(claim, { text: 'done' }, {});
    const decided = await decideOnce(sql, policy);
    const grant = decided === 'busy' ? undefined : decided.granted[0]?.grant;
    const second = grant && (await world.line.claim(grant, engine));
    if (!second) throw new Error('nothing was granted');
    await world.line.finish(second, { text: 'done' }, {});
    for (const each of [one, other, one]) {
      each.changed();
      await each.run();
    }
    const learned = await readLearned(sql);
    const group = JSON.stringify(['step', plan.template, 'one', 'llama3.2:latest']);
    expect(learned.durations.get(group)?.samples).toBe(2);
    expect([...learned.stretches.values()].reduce((sum, { judged }) => sum + judged, 0)).toBe(2);
    expect((await sql`select 1 from forecast_promises`).count).toBe(0);
  });

  describe('the last step before all is quiet is learned from', () => {
    const samples = async () => Math.max(0, ...[...(await readLearned(sql)).durations.values()].map((stats) => stats.samples));

    test('also when it ends while a transaction begun before it is open [PRED-12]', async () => {
      await world.host({ serving: [key] });
      const claim = await world.claimed(await world.task({ plan }));
      const forecast = forecaster();
      await forecast.run();
      await database.sql.begin(async (open) => {
        await open`select pg_current_xact_id()`;
        await world.line.finish(claim, { text: 'done' }, {});
        forecast.changed();
        expect(await forecast.run()).toMatchObject({ againInMs: expect.any(Number) });
        expect(await samples()).toBe(0);
      });
      expect(await forecast.run()).toBeUndefined();
      expect(await samples()).toBe(1);
    });

    test('also when it ends while another one is being learned from [PRED-12]', async () => {
      await world.host({ serving: [key] });
      const claim = await world.claimed(await world.task({ plan }));
      const forecast = forecaster();
      const looking = forecast.run();
      forecast.changed();
      await looking;
      await world.line.finish(claim, { text: 'done' }, {});
      await forecast.run();
      expect(await samples()).toBe(1);
    });
  });

  test('is made although the clock is set back by an hour [fault-36]', async () => {
    await world.host({ serving: [key] });
    await world.claimed(await world.task({ plan }));
    const forecast = createForecaster({ sql, everyMs: 1, log: pino({ level: 'silent' }) });
    await forecast.run();
    const before = (await readForecast(sql))?.version ?? 0;
    await clockSetBack(() =>
      eventually(async () => {
        forecast.changed();
        await forecast.run();
        return ((await readForecast(sql))?.version ?? 0) > before;
      }),
    );
  });

  test('nothing is written while nothing has changed, and one engine at a time writes', async () => {
    await world.host({ serving: [key] });
    const idle = forecaster();
    await idle.run();
    const version = async () => (await readForecast(sql))?.version ?? 0;
    const before = await version();
    await idle.run();
    idle.changed();
    await idle.run();
    expect(await version()).toBe(before);
    await world.claimed(await world.task({ plan }));
    await world.enter(await world.task({ plan }));
    const engines = Array.from({ length: 4 }, () => createForecaster({ sql, everyMs: 60_000, log: pino({ level: 'silent' }) }));
    await sql`truncate forecasts`;
    await Promise.all(engines.map((each) => each.run()));
    expect(await version()).toBe(1);
  });
});
