import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Claim, Grant, RunIdentity } from '../../../contract/line.js';
import type { Plan } from '../../../contract/plan.js';
import { untilAvailable } from '../../../db/connect.js';
import { decideOnce, expireGrants, loseHosts } from '../../../db/decide.js';
import { checkInvariants } from '../../../db/invariants.js';
import { acquireHost, setHostReady } from '../../../db/leases.js';
import { cancelTask, moveTask, retryTask, setPriority } from '../../../db/moves.js';
import { closeOutside } from '../../../db/reconcile.js';
import { abandonOrder, beginLoad, drainKeys, serveKey } from '../../../db/residency.js';
import type { ResidencyOrder } from '../../../contract/residency.js';
import { planOf, planStep } from '../../support/plans.js';
import { createTestDatabase, type TestDatabase } from '../../support/servers.js';
import { createWorld, engine, host, identity, modelStep, policy, resetRun } from './line-world.js';

let db: TestDatabase;
let world: ReturnType<typeof createWorld>;

beforeAll(async () => {
  db = await createTestDatabase();
  world = createWorld(db.sql);
});
afterAll(() => db.drop());

type Run = RunIdentity & { plan: Plan };

const moves = [
  'submit',
  'enter',
  'claim',
  'finish',
  'fail',
  'leave',
  'close',
  'cancel',
  'priority',
  'move',
  'retry',
  'reset',
  'outside',
  'decide',
  'expire',
  'lose',
  'lapse',
  'order',
] as const;
/** Often made moves are listed often, so that tasks get somewhere. */
const anyMove = fc.constantFrom(
  ...moves,
  ...Array<(typeof moves)[number]>(4).fill('enter'),
  ...Array<(typeof moves)[number]>(4).fill('claim'),
  ...Array<(typeof moves)[number]>(3).fill('finish'),
  'close',
  'decide',
  'decide',
  'order',
);
const anyScript = fc.array(fc.record({ move: anyMove, task: fc.nat(3), pick: fc.nat(7) }), { minLength: 5, maxLength: 25 });

/** What several processes know between their moves: runs, grants and claims, stale ones too. */
interface Knowledge {
  readonly runs: Run[];
  /** with the run that it came to, where it was given with the submit */
  readonly grants: { readonly grant: Grant; readonly run?: RunIdentity }[];
  readonly claims: Claim[];
  readonly orders: ResidencyOrder[];
}

async function begin(): Promise<Knowledge> {
  await world.empty();
  await world.engine(2);
  await world.host({ parallel: 2 });
  const first = await world.task({ plan: planOf(planStep('one'), planStep('two', { needs: ['one'] })), agent: 'bot' });
  const runs = [
    first,
    await world.task({ plan: planOf(modelStep('one'), modelStep('two')), after: [first.taskId] }),
    await world.task({ plan: planOf(planStep('one'), modelStep('two', { model: { name: 'other:latest', numCtx: 4096 } })), agent: 'bot' }),
    await world.task({ plan: planOf(modelStep('one')), exact: 90 }),
  ];
  return { runs, grants: [], claims: [], orders: [] };
}

/** One move as a process would make it, with whatever it happens to know. */
async function make(
  { runs, grants, claims, orders }: Knowledge,
  { move, task, pick }: { move: (typeof moves)[number]; task: number; pick: number },
): Promise<void> {
  const index = (pick % 2 ? task : task + 4) % runs.length;
  const run = runs[index];
  if (!run) return;
  const step = run.plan.steps[pick % run.plan.steps.length];
  if (!step) return;
  const { grant, run: ofRun } = grants.at(-1 - (pick % Math.max(1, grants.length))) ?? {};
  const claim = claims.at(-1 - (pick % Math.max(1, claims.length)));
  switch (move) {
    case 'submit': {
      const submitted = await world.submit({ plan: planOf(pick % 2 ? planStep('one') : modelStep('one')), ...(pick % 3 ? {} : { agent: 'bot' }) });
      runs.push(submitted);
      if (submitted.first) grants.push({ grant: submitted.first.grant, run: identity(submitted) });
      return;
    }
    case 'enter': {
      const entered = await world.line.enter({ run: identity(run), step, stepAttempt: 1 });
      if (entered.state === 'granted') grants.push({ grant: entered.grant });
      return;
    }
    case 'claim': {
      const claimed = grant && (await world.line.claim(grant, grant.pool === 'general' ? engine : null, ofRun));
      if (claimed) claims.push(claimed);
      return;
    }
    case 'finish':
      if (claim) await world.line.finish(claim, { pick }, {});
      return;
    case 'fail':
      if (claim) await world.line.fail(claim, { code: pick % 2 ? 'step_failed' : 'cancelled', message: 'x' }, {});
      return;
    case 'leave':
      return world.line.leave(identity(run), step.id, 'lost');
    case 'close': {
      const status = (['completed', 'failed', 'cancelled'] as const)[pick % 3] ?? 'failed';
      await world.line.close(identity(run), { status, error: status === 'failed' ? { code: 'step_failed', message: 'x', step: null, attempt: 1 } : null });
      return;
    }
    case 'cancel':
      await cancelTask(db.sql, run.taskId, null);
      return;
    case 'priority':
      await setPriority(db.sql, run.taskId, null, pick * 10);
      return;
    case 'move':
      await moveTask(db.sql, run.taskId, null, { side: pick % 2 ? 'before' : 'after', neighbour: runs[pick % runs.length]?.taskId ?? '', version: null });
      return;
    case 'retry': {
      const retried = await retryTask(db.sql, run.taskId, null);
      const runId = randomUUID();
      if (retried.outcome === 'retried') runs[index] = { ...run, attempt: retried.attempt, runId, firstRunId: runId };
      return;
    }
    case 'reset':
      runs[index] = resetRun(run);
      return;
    case 'outside':
      if (pick === 0) await closeOutside(db.sql, run, { code: 'ended_outside', message: 'x' });
      return;
    case 'decide': {
      const decided = await decideOnce(db.sql, policy);
      if (decided !== 'busy') {
        grants.push(...decided.granted.map(({ grant: given }) => ({ grant: given })));
        orders.push(...decided.ordered);
      }
      return;
    }
    case 'expire':
      if (pick % 2)
        await db.sql`update line set granted_at = granted_at - interval '16 seconds', signals = 2 where id in (select id from line where state = 'granted' limit 1 for update skip locked)`;
      await expireGrants(db.sql);
      await db.sql`update line set not_before = '-infinity' where id in (select id from line where state = 'waiting' and misses > 0 and not_before < 'infinity' for update skip locked)`;
      return;
    case 'lose':
      await loseHosts(db.sql);
      return;
    case 'lapse': {
      if (pick > 1) return;
      await db.sql`update hosts set lease_until = now() - interval '1 second'`;
      const epoch = await acquireHost(db.sql, { host, address: 'x', parallel: 2 }).catch(() => null);
      if (epoch !== null) await setHostReady(db.sql, host, epoch, true, {});
      return;
    }
    case 'order': {
      const order = orders.at(-1);
      if (!order?.load) return;
      const ref = { orderId: order.id, host: order.host, hostEpoch: order.hostEpoch };
      if (pick === 0) return abandonOrder(db.sql, order, { code: 'model_not_found', message: 'x', retryable: false });
      for (const key of await drainKeys(db.sql, ref, order.unload)) {
        // as the host does: the key goes when nothing runs on it
        await db.sql`delete from residency r where key = ${key} and state = 'draining'
          and not exists (select 1 from line l where l.state in ('granted', 'running') and l.host = r.host and l.host_epoch = r.host_epoch and l.key = r.key)`;
      }
      if (await beginLoad(db.sql, ref, order.load.key, order.load.model)) await serveKey(db.sql, ref, order.load.key, { digest: 'd', memoryBytes: 1 });
      return;
    }
  }
}

test('whatever moves several processes make at once, the invariants of the line hold, and what they left can be finished', { timeout: 240_000 }, async () => {
  const reached = new Set<string>();
  await fc.assert(
    fc.asyncProperty(fc.array(anyScript, { minLength: 4, maxLength: 4 }), async (scripts) => {
      const known = await begin();
      await Promise.all(
        scripts.map(async (script) => {
          // a deadlock would be repeated by the callers of these moves, but none may happen
          for (const step of script) await make(known, step);
        }),
      );
      expect(await checkInvariants(db.sql)).toEqual([]);
      for (const row of await db.sql<{ state: string }[]>`select distinct state from line`) reached.add(row.state);

      // Nothing is stuck: with a live engine every general step of a task that may still run gets its turn.
      await loseHosts(db.sql);
      const [open] = await db.sql<
        { id: string; attempt: number }[]
      >`select id, attempt from tasks where status in ('queued', 'running') and agent_assigned is not null order by pos limit 1`;
      if (!open) return;
      for (const other of await db.sql<
        { id: string; attempt: number }[]
      >`select id, attempt from tasks where status in ('queued', 'running') and id <> ${open.id}`) {
        await closeOutside(db.sql, { taskId: other.id, attempt: other.attempt }, { code: 'ended_outside', message: 'x' });
      }
      await db.sql`update tasks set cancel_requested_at = null`;
      const runId = randomUUID();
      const run = { taskId: open.id, attempt: open.attempt, runId, firstRunId: runId };
      const entered = await world.line.enter({ run, step: planStep('one'), stepAttempt: 1 });
      if (entered.state === 'waiting') {
        const decided = await untilAvailable(() => decideOnce(db.sql, policy), { patienceMs: 1_000 });
        expect(decided).toMatchObject({ granted: [{ workflowId: `task-${open.id}` }] });
      } else {
        expect(['granted', 'done']).toContain(entered.state);
      }
      expect(await checkInvariants(db.sql)).toEqual([]);
    }),
    { numRuns: 60 },
  );
  expect([...reached].toSorted()).toEqual(['done', 'granted', 'running', 'void', 'waiting']);
});
