import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Claim } from '../../../contract/line.js';
import { decideOnce } from '../../../db/decide.js';
import { acquireLock, configurePools, listResources, settleGivenWays } from '../../../db/holds.js';
import { checkInvariants } from '../../../db/invariants.js';
import { cancelTask } from '../../../db/moves.js';
import { chain, planStep } from '../../support/plans.js';
import { createTestDatabase, type TestDatabase } from '../../support/servers.js';
import { createWorld, engine, identity, policy } from './line-world.js';

let db: TestDatabase;
let world: ReturnType<typeof createWorld>;
type Task = Awaited<ReturnType<ReturnType<typeof createWorld>['task']>>;

beforeAll(async () => {
  db = await createTestDatabase();
  world = createWorld(db.sql);
});
afterAll(() => db.drop());

const waiter = { owner: null, wait: true, locksMax: 20 };

/** Ids of the tasks that a decision grants. */
async function decided(): Promise<string[]> {
  const done = await decideOnce(db.sql, policy);
  if (done === 'busy') throw new Error('busy');
  return done.granted.map(({ workflowId }) => workflowId.slice('task-'.length));
}

function neverClaim(): never {
  throw new Error('expected a claim');
}

test('whatever tasks enter, end, are cancelled, take locks and give way in whatever order, none runs without what it needs and nothing leaks [CONC-02, CONC-06, CONC-07, CONC-08]', async () => {
  const needs = fc.record({
    cpu_cores: fc.constantFrom(0.1, 0.7, 1, 2.5),
    locks: fc.uniqueArray(fc.constantFrom('a', 'b', 'c'), { maxLength: 2 }),
    resources: fc.constantFrom({}, { licences: 1 }),
  });
  // few tasks, of which most need nothing at first, and many wishes, so that they get into each other's way
  const which = fc.nat(2);
  const move = fc.oneof(
    { weight: 2, arbitrary: fc.option(needs, { nil: undefined, freq: 1 }).map((requires) => ({ kind: 'submit' as const, requires })) },
    { weight: 8, arbitrary: fc.record({ kind: fc.constant('lock' as const), which, name: fc.constantFrom('a', 'b', 'c') }) },
    { weight: 2, arbitrary: which.map((each) => ({ kind: 'enter' as const, which: each })) },
    { weight: 2, arbitrary: which.map((each) => ({ kind: 'end' as const, which: each })) },
    { weight: 2, arbitrary: fc.constant({ kind: 'give way' as const }) },
    which.map((each) => ({ kind: 'cancel' as const, which: each })),
    fc.constant({ kind: 'decide' as const }),
  );
  const plan = chain(planStep('one'), planStep('two'));
  await fc.assert(
    fc.asyncProperty(fc.array(move, { maxLength: 40, size: 'max' }), async (moves) => {
      await world.empty();
      await world.engine(3);
      await configurePools(db.sql, { cpu: 3, licences: 2 });
      /** with the step that each of them is at, and its claim while it runs */
      let open: { readonly task: Task; step: 'one' | 'two'; claim: Claim | null }[] = [];
      const enter = async (each: (typeof open)[number]) => {
        const entered = await world.enter(each.task, each.step);
        if (entered.state === 'granted') each.claim = (await world.line.claim(entered.grant, engine)) ?? neverClaim();
      };
      const gone = (each: (typeof open)[number]) => (open = open.filter((other) => other !== each));
      for (let n = 0; n < 2; n += 1) {
        const task = await world.task({ plan });
        await world.line.finish(await world.claimed(task, 'one'), {}, {});
        open.push({ task, step: 'two', claim: await world.claimed(task, 'two') });
      }
      for (const one of moves) {
        const each = 'which' in one ? open[one.which] : undefined;
        if (one.kind === 'submit') {
          if (open.length > 2) continue;
          const made = {
            task: await world.task({ plan, ...(one.requires === undefined ? {} : { requires: one.requires }) }),
            step: 'one' as const,
            claim: null,
          };
          open.push(made);
          await enter(made);
        } else if (one.kind === 'decide') {
          for (const id of await decided()) await enter(open.find(({ task }) => task.taskId === id) ?? neverClaim());
        } else if (each && one.kind === 'enter' && each.claim === null) {
          await enter(each);
        } else if (each && one.kind === 'lock') {
          await acquireLock(db.sql, one.name, each.task.taskId, waiter);
        } else if (each?.claim && one.kind === 'end') {
          await world.line.finish(each.claim, {}, {});
          each.claim = null;
          if (each.step === 'two') {
            gone(each);
            continue;
          }
          each.step = 'two';
          await enter(each);
        } else if (one.kind === 'give way') {
          // whoever runs and waits for what another one holds
          for (const running of open) {
            if (running.claim === null) continue;
            const [row] = await db.sql<{ marked: boolean }[]>`select holds_give_way(${running.task.taskId}, '{"members": [], "waits": []}') as marked`;
            if (row?.marked !== true) continue;
            await world.line.fail(running.claim, { code: 'GrantReturned', message: 'gave way' }, {});
            running.claim = null;
            await settleGivenWays(db.sql);
            break;
          }
        } else if (each && one.kind === 'cancel') {
          await cancelTask(db.sql, each.task.taskId, null);
          await world.line.close(identity(each.task), { status: 'cancelled', error: null });
          gone(each);
        }
        for (const { total, allocated: amount } of await listResources(db.sql, null)) {
          expect(amount).toBeGreaterThanOrEqual(0);
          expect(amount).toBeLessThanOrEqual(total);
        }
        expect(await checkInvariants(db.sql)).toEqual([]);
      }
      for (const { task } of open) {
        await cancelTask(db.sql, task.taskId, null);
        await world.line.close(identity(task), { status: 'cancelled', error: null });
      }
      expect([await db.sql`select * from holds`, await db.sql`select * from allocations`, await db.sql`select * from lock_wishes`]).toEqual([[], [], []]);
    }),
    { numRuns: 40 },
  );
}, 240_000);
