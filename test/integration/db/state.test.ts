import { afterAll, beforeAll, expect, test } from 'vitest';
import { decideOnce } from '../../../db/decide.js';
import { learnFinished } from '../../../db/durations.js';
import { readForecast, writeForecast } from '../../../db/forecasts.js';
import { listLocks } from '../../../db/holds.js';
import { holdTask, moveTask } from '../../../db/moves.js';
import { pauseQueue, readPauses } from '../../../db/queue.js';
import { readState, type StateRows, writeState } from '../../../db/state.js';
import { createTestDatabase, type TestDatabase } from '../../support/servers.js';
import { createWorld, policy } from './line-world.js';

let from: TestDatabase;
let to: TestDatabase;
beforeAll(async () => {
  [from, to] = [await createTestDatabase(), await createTestDatabase()];
});
afterAll(async () => {
  await from.drop();
  await to.drop();
});

const ids = (tasks: readonly { readonly taskId: string }[]) => tasks.map(({ taskId }) => taskId);

test('a state takes the order of the queue, holds and pauses along, and neither forecasts nor what is learned already [SCHED-22, DUR-03]', async () => {
  const [here, there] = [createWorld(from.sql), createWorld(to.sql)];
  await here.engine(10);
  const [first, second, moved, locked] = [await here.task(), await here.task(), await here.task(), await here.task({ requires: { locks: ['deploy'] } })];
  const done = await here.task();
  await here.complete(done);
  await here.granted(locked);
  await moveTask(from.sql, moved.taskId, null, { side: 'before', neighbour: first.taskId, version: null });
  await holdTask(from.sql, second.taskId, null, { held: true, by: 'ada' });
  await pauseQueue(from.sql, 'model:x:latest', { by: 'ada', reason: 'new version' });
  await writeForecast(from.sql, new Date(), []);

  const tables: { table: string; rows: string[] }[] = [];
  await readState(
    from.sql,
    async ({ name }) => void tables.push({ table: name, rows: [] }),
    async (row) => void tables.at(-1)?.rows.push(row),
  );
  await writeState(
    to.sql,
    (async function* (): AsyncGenerator<StateRows> {
      yield* tables;
    })(),
  );

  expect((await readPauses(to.sql)).map(({ scope, reason }) => [scope, reason])).toEqual([['model:x:latest', 'new version']]);
  expect(await readForecast(to.sql, { known: null })).toBeNull();
  expect(await learnFinished(to.sql, () => expect.unreachable('learned twice'))).toEqual({ more: false, unseen: false, count: 0 });
  // a lock is taken again with the next grant
  const locks = { after: null, limit: 10 };
  expect(await listLocks(to.sql, null, locks)).toEqual([]);
  for (const task of [first, second, moved, locked]) await there.enter(task);
  await there.engine(10);
  const decision = await decideOnce(to.sql, policy);
  if (decision === 'busy') throw new Error('busy');
  expect(decision.granted.map(({ workflowId }) => workflowId.slice('task-'.length))).toEqual(ids([moved, first, locked]));
  expect(await listLocks(to.sql, null, locks)).toMatchObject([{ name: 'deploy', taskId: locked.taskId }]);
});

test('users with the hashes of their passwords are state, and who has signed in is not [SEC-13, DASH-15]', async () => {
  const tables: string[] = [];
  await readState(
    from.sql,
    async ({ name }) => void tables.push(name),
    async () => {},
  );
  expect(tables).toContain('users');
  expect(tables.filter((name) => /session|ticket|failure/.test(name))).toEqual([]);
});
