import { pino } from 'pino';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { releaseEngine } from '../../../db/leases.js';
import { createDecider } from '../../../engine/decide.js';
import { clockSetBack } from '../../support/clock-set-back.js';
import { createTestDatabase, eventually, type TestDatabase } from '../../support/servers.js';
import { createWorld, engine, policy } from '../db/line-world.js';

let db: TestDatabase;
let world: ReturnType<typeof createWorld>;
beforeAll(async () => {
  db = await createTestDatabase();
  world = createWorld(db.sql);
});
afterAll(() => db.drop());
beforeEach(() => world.empty());

/** Nothing is granted in these tests, so nobody is told. */
const decider = () => createDecider({ sql: db.sql, client: undefined as never, policy, onOrders() {}, log: pino({ level: 'silent' }) });

async function runningOnALostEngine(): Promise<string> {
  await world.engine(1);
  const { row } = await world.claimed(await world.task());
  await releaseEngine(db.sql, engine);
  return row;
}

test('lapsed leases are looked for at once, and although the clock is set back by an hour [fault-36]', async () => {
  const decide = decider();
  const first = await runningOnALostEngine();
  await decide();
  expect(await world.row(first)).toMatchObject({ state: 'void', cause: 'host_lost' });
  const second = await runningOnALostEngine();
  await clockSetBack(() =>
    eventually(async () => {
      await decide();
      return (await world.row(second))['state'] === 'void';
    }),
  );
});

test('what could not be looked for, since somebody else decided, is looked for again without a pause', async () => {
  const decide = decider();
  const row = await runningOnALostEngine();
  await db.sql.begin(async (tx) => {
    await tx`select line_try_lock()`;
    expect(await decide()).toEqual({ againInMs: 5 });
  });
  expect(await world.row(row)).toMatchObject({ state: 'running' });
  expect(await decide()).toBeUndefined();
  expect(await world.row(row)).toMatchObject({ state: 'void' });
});
