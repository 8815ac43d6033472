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
  const which = fc.nat(5);
  const move = fc.oneof(
    fc.option(needs, { nil: undefined }).map((requires) => ({ kind: 'submit' as const, requires })),
    ...(['enter', 'end', 'give way', 'cancel'] as const).map((kind) => which.map((each) => ({ kind, which: each }))),
    fc.record({ kind: fc.constant('lock' as const), which, name: fc.constantFrom('a', 'b', 'c') }),
    fc.constant({ kind: 'decide' as const }),
  );
  const plan = chain(planStep('one'), planStep('two'));
  await fc.assert(
    fc.asyncProperty(fc.array(move, { maxLength: 40 }), async (moves) => {
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
      for (const one of moves) {
        const each = 'which' in one ? open[one.which] : undefined;
        if (one.kind === 'submit') {
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
          if (each.step === 'two') gone(each);
          each.step = 'two';
        } else if (each?.claim && one.kind === 'give way') {
          // of its own accord, as long as it waits for what another one holds
          const [row] = await db.sql<{ marked: boolean }[]>`select holds_give_way(${each.task.taskId}, '{"members": [], "waits": []}') as marked`;
          if (row?.marked !== true) continue;
          await world.line.fail(each.claim, { code: 'GrantReturned', message: 'gave way' }, {});
          each.claim = null;
          await settleGivenWays(db.sql);
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
    { numRuns: 20 },
  );
}, 240_000);
