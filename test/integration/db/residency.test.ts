import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { ResidencyOrder } from '../../../contract/residency.js';
import { connect, disconnect } from '../../../db/connect.js';
import { decideOnce, readSnapshot } from '../../../db/decide.js';
import { checkInvariants } from '../../../db/invariants.js';
import { acquireHost, HostTaken, hostHolder, hostOfSameServer, releaseHost, renewEngine, renewHost } from '../../../db/leases.js';
import { requestModel } from '../../../db/model-orders.js';
import { upsertSeen } from '../../../db/models.js';
import { doneOutbox, laterOutbox, outboxDueMs, putOutbox, takeDue } from '../../../db/outbox.js';
import {
  abandonOrder,
  beginLoad,
  beginUnload,
  drainKeys,
  drainState,
  endFetch,
  endOrder,
  fetchFirst,
  forgetKey,
  isOrderOpen,
  readResidency,
  removeDrained,
  serveKey,
} from '../../../db/residency.js';
import type { Snapshot } from '../../../scheduling/policy.js';
import { chain, planStep } from '../../support/plans.js';
import { createTestDatabase, eventually, type TestDatabase } from '../../support/servers.js';
import { createWorld, host, key, modelStep, need, policy } from './line-world.js';

let db: TestDatabase;
let world: ReturnType<typeof createWorld>;

beforeAll(async () => {
  db = await createTestDatabase();
  world = createWorld(db.sql);
});
afterAll(() => db.drop());
beforeEach(() => world.empty());
afterEach(async () => expect(await checkInvariants(db.sql)).toEqual([]));

const loaded = { digest: 'sha256:1', memoryBytes: 1_000 };
const old = 'old~ctx4096';
const plan = chain(modelStep('one'));

/** A waiting step, and the order that the policy gives for it. */
async function ordered(
  serving: readonly string[] = [],
): Promise<{ order: ResidencyOrder; ref: { orderId: string; host: string; hostEpoch: number }; row: string }> {
  await world.host({ serving });
  const entered = await world.enter(await world.task({ plan }));
  const decided = await decideOnce(db.sql, policy);
  const order = decided === 'busy' ? undefined : decided.ordered[0];
  if (!order || entered.state !== 'waiting') throw new Error('no order');
  await db.sql`delete from outbox`;
  return { order, ref: { orderId: order.id, host: order.host, hostEpoch: order.hostEpoch }, row: entered.row };
}

describe('an order', () => {
  test('drains, removes, loads and serves; then its key takes grants', async () => {
    const { order, ref, row } = await ordered([old]);
    expect(order.unload).toEqual([old]);
    expect(await isOrderOpen(db.sql, ref)).toBe(true);
    expect(await drainKeys(db.sql, ref, [old, 'unknown'])).toEqual([old]);
    expect(await drainState(db.sql, ref, old)).toBe('idle');
    await removeDrained(db.sql, ref, old);
    expect(await beginLoad(db.sql, ref, key, need)).toBe(true);
    expect(await beginLoad(db.sql, ref, key, need)).toBe(true);
    expect(await readResidency(db.sql, host, 1)).toMatchObject([{ key, state: 'loading', model: need }]);
    expect(await serveKey(db.sql, ref, key, loaded)).toBe(true);
    expect(await serveKey(db.sql, ref, key, loaded)).toBe(true);
    expect(await isOrderOpen(db.sql, ref)).toBe(false);
    expect(await decideOnce(db.sql, policy)).toMatchObject({ granted: [{ grant: { row } }] });
    expect(await drainState(db.sql, ref, key)).toBe('stale');
  });

  test('has no effect once it has ended or its host has begun anew', async () => {
    const { ref } = await ordered([old]);
    await db.sql`update hosts set epoch = 2`;
    expect(await isOrderOpen(db.sql, ref)).toBe(false);
    expect(await drainKeys(db.sql, ref, [old])).toEqual([]);
    expect(await beginLoad(db.sql, ref, key, need)).toBe(false);
    expect(await serveKey(db.sql, ref, key, loaded)).toBe(false);
    await db.sql`update hosts set epoch = 1`;
    await endOrder(db.sql, ref);
    expect(await beginLoad(db.sql, ref, key, need)).toBe(false);
    await removeDrained(db.sql, ref, old);
    expect(await readResidency(db.sql, host, 1)).toMatchObject([{ key: old, state: 'serving' }]);
  });

  test('that fails lets what is still loaded serve again, pauses the key, and refuses those who wait for it', async () => {
    const { order, ref, row } = await ordered([old]);
    await drainKeys(db.sql, ref, [old]);
    await beginLoad(db.sql, ref, key, need);
    const failure = { code: 'model_not_found', message: 'no such model', retryable: false };
    await abandonOrder(db.sql, order, failure);
    await abandonOrder(db.sql, order, failure);
    expect(await readResidency(db.sql, host, 1)).toMatchObject([{ key: old, state: 'serving' }]);
    expect(await world.row(row)).toMatchObject({ state: 'void', cause: 'model_not_found' });
    expect(await db.sql`select kind, payload from outbox`).toEqual([{ kind: 'signal', payload: { name: 'refused', args: [{ row, ...failure }] } }]);
    expect(await db.sql`select failures, until > clock_timestamp() - interval '1 minute' as paused from residency_backoff`).toEqual([
      { failures: 1, paused: true },
    ]);
  });

  test('that fails refuses nobody whom another host may serve, nor when only its host was lost', async () => {
    const { order, row } = await ordered();
    await world.host({ id: 'host-2' });
    await abandonOrder(db.sql, order, { code: 'model_out_of_memory', message: 'too big', retryable: false });
    expect(await world.row(row)).toMatchObject({ state: 'waiting' });
    await world.empty();
    const second = await ordered();
    await abandonOrder(db.sql, second.order, { code: 'host_lost', message: 'gone', retryable: true });
    expect(await world.row(second.row)).toMatchObject({ state: 'waiting' });
    expect(await db.sql`select * from residency_backoff`).toHaveLength(0);
  });

  test('what a load took is learned, the newest counting as much as all before while they are few; one of what was in memory already teaches nothing', async () => {
    const costs = () => db.sql`select load_ms, bytes::integer as bytes, samples from key_costs where key = ${key}`;
    const { ref } = await ordered();
    for (const [loadMs, memoryBytes] of [
      [1_000, 500],
      [2_000, 600],
      [undefined, 0],
    ] as const) {
      await beginLoad(db.sql, ref, key, need);
      expect(await serveKey(db.sql, ref, key, { ...loaded, memoryBytes, ...(loadMs === undefined ? {} : { loadMs }) })).toBe(true);
      await db.sql`update residency_orders set state = 'open'`;
    }
    expect(await costs()).toEqual([{ load_ms: 1_500, bytes: 600, samples: 2 }]);
    await beginLoad(db.sql, ref, key, need);
    await serveKey(db.sql, ref, key, { ...loaded, memoryBytes: 900, vramBytes: 400, loadMs: 1_500 });
    expect(await costs()).toEqual([{ load_ms: 1_500, bytes: 400, samples: 3 }]);
  });

  test('service of a key begins anew with its load, and is forgotten with it', async () => {
    const { ref } = await ordered([old]);
    const served = () => db.sql`select key, served_ms from residency_service order by key`;
    await db.sql`insert into residency_service (host, host_epoch, key, served_ms) values (${host}, 1, ${old}, 5), (${host}, 1, ${key}, 7)`;
    await drainKeys(db.sql, ref, [old]);
    await removeDrained(db.sql, ref, old);
    await beginLoad(db.sql, ref, key, need);
    await serveKey(db.sql, ref, key, loaded);
    expect(await served()).toEqual([{ key, served_ms: 0 }]);
    await forgetKey(db.sql, host, 1, key);
    expect(await served()).toEqual([]);
  });

  describe('for which the memory did not suffice', () => {
    const failure = { code: 'model_out_of_memory', message: 'too big', retryable: true };
    const later = () => db.sql`update residency_backoff set until = now() - interval '1 second'`;

    test('is tried again without the models beside it, and nobody is refused [MODEL-09]', async () => {
      await world.host({ serving: [old], room: { modelsMax: 2, roomBytes: 1_000, budgetBytes: 1_000, spillBytes: 0 } });
      await db.sql`insert into key_costs (host, key, load_ms, bytes, samples) values (${host}, ${old}, 10, 400, 1), (${host}, ${key}, 10, 500, 1)`;
      const entered = await world.enter(await world.task({ plan }));
      if (entered.state !== 'waiting') throw new Error('not set up');
      const first = await decideOnce(db.sql, policy);
      if (first === 'busy' || !first.ordered[0]) throw new Error('no order');
      expect(first.ordered[0].unload).toEqual([]);
      await beginLoad(db.sql, { orderId: first.ordered[0].id, host, hostEpoch: 1 }, key, need);
      await abandonOrder(db.sql, first.ordered[0], failure);
      expect(await world.row(entered.row)).toMatchObject({ state: 'waiting' });
      expect(await decideOnce(db.sql, policy)).toMatchObject({ ordered: [] }); // it pauses for a moment
      await later();
      expect(await decideOnce(db.sql, policy)).toMatchObject({ ordered: [{ unload: [old], load: { key } }] });
    });

    test('although it was alone, ends those who wait, and is not tried again until there is more room [MODEL-09]', async () => {
      await world.host({ room: { modelsMax: 2, roomBytes: 800, budgetBytes: 1_000, spillBytes: 0 } });
      await db.sql`insert into models (host, name, digest, size_bytes) values (${host}, ${need.name}, 'd', 400)`;
      const entered = await world.enter(await world.task({ plan }));
      const first = await decideOnce(db.sql, policy);
      if (first === 'busy' || !first.ordered[0] || entered.state !== 'waiting') throw new Error('no order');
      await abandonOrder(db.sql, first.ordered[0], failure);
      expect(await world.row(entered.row)).toMatchObject({ state: 'void', cause: 'model_out_of_memory' });
      await later();
      await world.enter(await world.task({ plan }));
      expect(await decideOnce(db.sql, policy)).toMatchObject({ ordered: [], refused: 0 });
      await db.sql`update hosts set room_bytes = 900`;
      expect(await decideOnce(db.sql, policy)).toMatchObject({ ordered: [{ load: { key } }] });
    });
  });

  test('is tried once more where the model has fitted before, and believed not to fit for a while only [MODEL-09, fault-27]', async () => {
    const failure = { code: 'model_out_of_memory', message: 'too big', retryable: true };
    const abandonNext = async () => {
      await db.sql`update residency_backoff set until = now() - interval '1 second'`;
      const decided = await decideOnce(db.sql, policy);
      if (decided === 'busy' || !decided.ordered[0]) throw new Error('no order');
      await abandonOrder(db.sql, decided.ordered[0], failure);
    };
    await world.host({ room: { modelsMax: 2, roomBytes: 1_000, budgetBytes: 1_000, spillBytes: 0 } });
    await db.sql`insert into key_costs (host, key, load_ms, bytes, samples) values (${host}, ${key}, 10, 500, 3)`;
    const entered = await world.enter(await world.task({ plan }));
    if (entered.state !== 'waiting') throw new Error('not set up');
    await abandonNext();
    expect(await world.row(entered.row)).toMatchObject({ state: 'waiting' });
    await abandonNext();
    expect(await world.row(entered.row)).toMatchObject({ state: 'void', cause: 'model_out_of_memory' });
    await db.sql`update residency_backoff set until = now() - interval '1 second'`;
    const second = await world.enter(await world.task({ plan }));
    expect(await decideOnce(db.sql, policy)).toMatchObject({ ordered: [], refused: 1 });
    expect(second.state).toBe('waiting');
    await db.sql`update key_costs set tight_until = now() - interval '1 second'`;
    await world.enter(await world.task({ plan }));
    expect(await decideOnce(db.sql, policy)).toMatchObject({ ordered: [{ load: { key } }], refused: 0 });
  });

  test('that fails since another model is not given up by its server refuses nobody [fault-28]', async () => {
    const { order, row } = await ordered([old]);
    await abandonOrder(db.sql, order, { code: 'backend_failed', message: 'Ollama did not unload it', retryable: true, phase: 'draining' });
    expect(await world.row(row)).toMatchObject({ state: 'waiting' });
    expect(await decideOnce(db.sql, policy)).toMatchObject({ ordered: [], refused: 0 }); // not at once
  });

  describe('whose model has to be fetched', () => {
    const third = 'third~ctx4096';
    const fetching = async () => {
      const made = await ordered([old]);
      await fetchFirst(db.sql, made.order);
      return made;
    };

    test('becomes a fetch of its own, and its host goes on with others meanwhile [MODEL-04, SCHED-09]', async () => {
      const { order, ref, row } = await fetching();
      const told = await db.sql`select workflow_id, payload from outbox`;
      expect(told).toEqual([{ workflow_id: `fetch-${order.id}`, payload: { ...order, unload: [], pull: need.name } }]);
      expect(await readResidency(db.sql, host, 1)).toMatchObject([{ key: old, state: 'serving' }]);
      expect(await decideOnce(db.sql, policy)).toMatchObject({ ordered: [] }); // not ordered again
      const other = await world.enter(await world.task({ plan: chain(planStep('a', { pool: 'model', model: { name: 'third', numCtx: 4_096 } })) }));
      expect(other.state).toBe('waiting');
      const second = await decideOnce(db.sql, policy);
      expect(second).toMatchObject({ ordered: [{ load: { key: third } }] });
      if (second === 'busy' || !second.ordered[0]) throw new Error('no order');
      await endOrder(db.sql, { orderId: second.ordered[0].id, host, hostEpoch: 1 });
      await db.sql`delete from line where key = ${third}`;

      expect(await endFetch(db.sql, { ...order, pull: need.name })).toBe('done');
      expect(await isOrderOpen(db.sql, ref)).toBe(false);
      expect(await world.row(row)).toMatchObject({ state: 'waiting' });
      expect(await decideOnce(db.sql, policy)).toMatchObject({ ordered: [{ load: { key } }] });
    });

    test('is not fetched a second time by a decision that began before it was', async () => {
      const { order } = await ordered([old]);
      const other = connect(db.url, { applicationName: 'holds-a-lock' });
      let decided: Promise<Snapshot | null> = Promise.resolve(null);
      await other.begin(async (tx) => {
        await tx`lock table queue_pauses in access exclusive mode`; // where a decision stands still that has begun to read
        decided = db.sql.begin((reading) => readSnapshot(reading));
        await eventually(
          async () =>
            (
              await db.sql`select 1 from pg_locks where not granted and relation = 'queue_pauses'::regclass and database = (select oid from pg_database where datname = current_database())`
            ).count === 1,
        );
        await fetchFirst(db.sql, order);
      });
      await disconnect(other);
      const snapshot = await decided;
      const busy = snapshot?.openOrders.some(({ id }) => id === order.id);
      const fetched = snapshot?.backingOff.some((each) => each.host === host && each.key === key);
      expect(busy || fetched).toBe(true);
    });

    test('is not loaded on another host either that would have to fetch it too [MODEL-17]', async () => {
      await fetching();
      await world.host({ id: 'host-2' });
      expect(await decideOnce(db.sql, policy)).toMatchObject({ ordered: [] });
      await db.sql`insert into models (host, name, digest, size_bytes) values ('host-2', ${need.name}, 'd', 1)`;
      expect(await decideOnce(db.sql, policy)).toMatchObject({ ordered: [{ host: 'host-2', load: { key } }] });
    });

    test('ends those who wait when it cannot be fetched, and nobody else [bad-29]', async () => {
      const { order, row } = await fetching();
      const failure = { code: 'model_not_found', message: 'no such model', retryable: false, phase: 'pulling' as const };
      await abandonOrder(db.sql, { ...order, pull: need.name }, failure);
      expect(await world.row(row)).toMatchObject({ state: 'void', cause: 'model_not_found' });
      expect(await readResidency(db.sql, host, 1)).toMatchObject([{ key: old, state: 'serving' }]);
    });

    test('waits while its host fetches as many as it may, and is ordered again when one of them has ended', async () => {
      await world.host({ serving: [old] });
      const orders: ResidencyOrder[] = [];
      for (const name of ['one', 'two', 'three']) {
        await world.enter(await world.task({ plan: chain(planStep('a', { pool: 'model', model: { name, numCtx: 4_096 } })) }));
        const decided = await decideOnce(db.sql, policy);
        if (decided === 'busy' || !decided.ordered[0]) throw new Error('no order');
        await fetchFirst(db.sql, decided.ordered[0]);
        orders.push(decided.ordered[0]);
      }
      const [first, , last] = orders;
      expect(await db.sql`select state, pull_model as name from residency_orders order by created_at`).toEqual([
        { state: 'open', name: 'one' },
        { state: 'open', name: 'two' },
        { state: 'failed', name: null },
      ]);
      expect(await db.sql`select 1 from line where state = 'void'`).toHaveLength(0);
      expect(await decideOnce(db.sql, policy)).toMatchObject({ ordered: [] });
      if (first === undefined) throw new Error('no order');
      await endFetch(db.sql, { ...first, pull: 'one' });
      await db.sql`delete from line where key like 'one%'`;
      expect(await decideOnce(db.sql, policy)).toMatchObject({ ordered: [{ load: last?.load }] });
    });

    test('that a person gave goes on as a change of its host, once that changes nothing else', async () => {
      await world.host({ serving: [old] });
      const asked = await requestModel(db.sql, { action: 'load', host, model: need.name, numCtx: need.numCtx, mayPull: true, user: 'ann' });
      if (asked.outcome !== 'ordered') throw new Error('not ordered');
      const [{ payload: order } = { payload: null }] = await db.sql<{ payload: ResidencyOrder }[]>`select payload from outbox`;
      if (order === null) throw new Error('not told');
      await fetchFirst(db.sql, order);
      await db.sql`delete from outbox`;
      await world.enter(await world.task({ plan: chain(planStep('a', { pool: 'model', model: { name: 'third', numCtx: 4_096 } })) }));
      const other = await decideOnce(db.sql, policy);
      if (other === 'busy' || !other.ordered[0]) throw new Error('no order');
      await db.sql`delete from outbox`;
      const fetched = { ...order, pull: need.name };
      expect(await endFetch(db.sql, fetched)).toBe('busy');
      await endOrder(db.sql, { orderId: other.ordered[0].id, host, hostEpoch: 1 });
      expect(await endFetch(db.sql, fetched)).toBe('done');
      expect(await db.sql`select workflow_id, payload from outbox`).toEqual([{ workflow_id: `residency-${host}`, payload: order }]);
      expect(await isOrderOpen(db.sql, { orderId: order.id, host, hostEpoch: 1 })).toBe(true);
    });
  });

  test('a model that only a host has which was here a moment ago is not fetched to another one meanwhile [MODEL-17]', async () => {
    await world.host({ id: 'other' });
    await db.sql`insert into models (host, name, digest, size_bytes) values (${host}, ${need.name}, 'd', 100)`;
    await world.host();
    await db.sql`update hosts set lease_until = now() - interval '1 second' where id = ${host}`;
    await world.enter(await world.task({ plan }));
    expect(await decideOnce(db.sql, policy)).toMatchObject({ ordered: [], refused: 0 });
    await db.sql`update models set seen_at = now() - interval '6 minutes'`;
    expect(await decideOnce(db.sql, policy)).toMatchObject({ ordered: [{ host: 'other', load: { key } }] });
  });

  test('a key that the server lost is forgotten under its own epoch only', async () => {
    await world.host({ serving: [key] });
    await forgetKey(db.sql, host, 2, key);
    expect(await readResidency(db.sql, host, 1)).toHaveLength(1);
    await forgetKey(db.sql, host, 1, key);
    expect(await readResidency(db.sql, host, 1)).toHaveLength(0);
  });
});

describe('leases', () => {
  const identity = { host, address: 'x', parallel: 1 };

  test('a host has one holder; another takes over when the lease is past or given back, with a new epoch', async () => {
    expect(await acquireHost(db.sql, identity)).toBe(1);
    await expect(acquireHost(db.sql, identity)).rejects.toThrow(HostTaken);
    const holder = await hostHolder(db.sql, identity);
    expect(await renewHost(db.sql, host, 1)).toBe(true);
    expect(await hostHolder(db.sql, identity)).not.toEqual(holder);
    await db.sql`update hosts set lease_until = now() - interval '1 second'`;
    expect(await hostHolder(db.sql, identity)).toBeNull();
    expect(await renewHost(db.sql, host, 1)).toBe(false);
    expect(await acquireHost(db.sql, identity)).toBe(2);
    expect(await renewHost(db.sql, host, 1)).toBe(false);
    await releaseHost(db.sql, host, 1);
    expect(await renewHost(db.sql, host, 2)).toBe(true);
    await releaseHost(db.sql, host, 2);
    expect(await acquireHost(db.sql, identity)).toBe(3);
  });

  test('a model server has one host; another id gets it when the lease is past, and servers that nobody can tell apart are not compared [MODEL-17]', async () => {
    const [one, two] = ['one', 'two'].map((id) => ({ ...identity, host: id, address: 'http://127.0.0.1:1', server: 'machine 1' }));
    if (!one || !two) throw new Error('two hosts');
    expect(await acquireHost(db.sql, one)).toBe(1);
    await expect(acquireHost(db.sql, two)).rejects.toThrow(HostTaken);
    expect(await hostHolder(db.sql, two)).toMatchObject({ host: 'one', address: 'http://127.0.0.1:1' });
    expect(await acquireHost(db.sql, { ...two, server: 'machine 2' })).toBe(1);
    await releaseHost(db.sql, 'two', 1);
    await db.sql`update hosts set lease_until = now() - interval '1 second' where id = 'one'`;
    expect(await acquireHost(db.sql, two)).toBe(2);
    await expect(acquireHost(db.sql, one)).rejects.toThrow(HostTaken);
    for (const id of ['three', 'four']) expect(await acquireHost(db.sql, { ...identity, host: id })).toBe(1);
  });

  test('of many hosts that want a model server at once, one gets it [MODEL-17]', async () => {
    const taken = await Promise.allSettled(
      Array.from({ length: 6 }, (_, index) => acquireHost(db.sql, { ...identity, host: `host-${index}`, server: 'machine 1' })),
    );
    expect(taken.filter((result) => result.status === 'fulfilled')).toHaveLength(1);
  });

  test('of two hosts that see the same thing in the memory of their servers, the later one is told [MODEL-17]', async () => {
    const model = { name: 'm:latest', digest: 'd', memoryBytes: 1, vramBytes: 0, contextLength: 512, expiresAtMs: 1, runner: 'd' };
    const mark = '2026-01-09T10:55:00.123456789Z';
    for (const id of ['first', 'second']) await acquireHost(db.sql, { ...identity, host: id });
    for (const id of ['first', 'second']) await upsertSeen(db.sql, id, { installed: [], loaded: [{ ...model, mark }], usedAtMs: new Map() });
    expect(await hostOfSameServer(db.sql, 'second', 1, [mark])).toEqual({ host: 'first', address: 'x' });
    expect(await hostOfSameServer(db.sql, 'first', 1, [mark])).toBeNull();
    expect(await hostOfSameServer(db.sql, 'second', 1, ['2026-01-09T10:55:00.123456780Z'])).toBeNull();
    expect(await hostOfSameServer(db.sql, 'second', 1, [])).toBeNull();
    await db.sql`update hosts set lease_until = now() - interval '1 second' where id = 'first'`;
    expect(await hostOfSameServer(db.sql, 'second', 1, [mark])).toBeNull();
  });

  test('of many that want a host at once, one gets it', async () => {
    const taken = await Promise.allSettled(Array.from({ length: 6 }, () => acquireHost(db.sql, identity)));
    expect(taken.filter((result) => result.status === 'fulfilled')).toHaveLength(1);
  });

  test('an engine that was silent for too long learns that its lease lapsed', async () => {
    await world.engine(1);
    expect(await renewEngine(db.sql, 'engine-1')).toBe(true);
    await db.sql`update engines set lease_until = now() - interval '1 second'`;
    expect(await renewEngine(db.sql, 'engine-1')).toBe(false);
    expect(await renewEngine(db.sql, 'unknown')).toBe(false);
  });
});

describe('outbox', () => {
  const put = (workflowId: string, exact: number) =>
    db.sql.begin((tx) => putOutbox(tx, { kind: 'signal', workflowId, taskId: null, payload: { name: 'priority', args: [exact] } }));
  const take = () => takeDue(db.sql, { limit: 10, leaseMs: 60_000 });

  test('entries of one workflow are delivered one after another, those of others do not wait for it', async () => {
    await put('a', 1);
    await put('a', 2);
    await put('b', 3);
    const taken = await take();
    expect(taken.map((entry) => [entry.workflowId, entry.attempts])).toEqual([
      ['a', 1],
      ['b', 1],
    ]);
    expect(await take()).toEqual([]);
    expect(await doneOutbox(db.sql, taken[0]!)).toBe(true);
    const [second] = await take();
    expect(second).toMatchObject({ workflowId: 'a', payload: { name: 'priority', args: [2] } });
    expect(await doneOutbox(db.sql, second!)).toBe(false);
  });

  test('of several deliverers, one gets an entry', async () => {
    for (let n = 0; n < 5; n++) await put(`w${n}`, n);
    const taken = await Promise.all([take(), take(), take()]);
    expect(
      taken
        .flat()
        .map((entry) => entry.workflowId)
        .toSorted(),
    ).toEqual(['w0', 'w1', 'w2', 'w3', 'w4']);
  });

  test('a failed delivery is put off with its reason, and an abandoned one comes back', async () => {
    expect(await outboxDueMs(db.sql)).toBeNull();
    await put('a', 1);
    expect(await outboxDueMs(db.sql)).toBe(0);
    const [entry] = await take();
    await db.sql`update outbox set attempts = 20`;
    await laterOutbox(db.sql, entry!.id, 'Temporal\0 is away');
    const [row] =
      await db.sql`select last_error, next_at > clock_timestamp() + interval '20 seconds' as later, next_at < clock_timestamp() + interval '70 seconds' as soon from outbox`;
    expect(row).toEqual({ last_error: 'Temporal\ufffd is away', later: true, soon: true });
    await db.sql`update outbox set next_at = now() - interval '1 second'`;
    expect(await take()).toMatchObject([{ id: entry!.id, attempts: 21 }]);
  });
});

describe('something urgent that comes while an order is open', () => {
  const urgentNeed = { name: 'urgent:latest', numCtx: 4096 };
  const urgentKey = 'urgent:latest~ctx4096';
  const enterUrgent = async () => world.enter(await world.task({ plan: chain(modelStep('one', { model: urgentNeed })), exact: 95 }));
  const decide = async () => {
    const decided = await decideOnce(db.sql, policy);
    if (decided === 'busy') throw new Error('busy');
    return decided.ordered;
  };
  const states = async () =>
    (
      await db.sql<
        { id: string; state: string; code: string | null }[]
      >`select id, state, error ->> 'code' as code from residency_orders order by created_at, id`
    ).map(({ id, state, code }) => [id, state, code]);

  test('has it carried out for itself while its load has not begun; a failure of the new one lets serve again what was to go [SCHED-09]', async () => {
    const { order, ref } = await ordered([old]);
    await drainKeys(db.sql, ref, [old]);
    await enterUrgent();
    const [revised] = await decide();
    if (revised === undefined) throw new Error('no order');
    expect(revised).toMatchObject({ unload: [old], load: { key: urgentKey } });
    expect(new Set(await states())).toEqual(
      new Set([
        [order.id, 'failed', 'revised'],
        [revised.id, 'open', null],
      ]),
    );
    // Whoever still works on the first one finds it closed, and the next decision changes nothing.
    expect(await beginLoad(db.sql, ref, key, need)).toBe(false);
    await abandonOrder(db.sql, order, { code: 'backend_unavailable', message: 'x', retryable: true });
    expect(await decide()).toEqual([]);
    await abandonOrder(db.sql, revised, { code: 'ended_outside', message: 'x', retryable: true });
    expect(await db.sql`select key, state from residency`).toEqual([{ key: old, state: 'serving' }]);
  });

  test('and needs what was to go for it gives the order up: that serves again, and takes the grant [SCHED-09]', async () => {
    const { order, ref } = await ordered([old]);
    expect(await drainKeys(db.sql, ref, [old])).toEqual([old]);
    const needsOld = { name: 'old', numCtx: 4096 };
    const entered = await world.enter(await world.task({ plan: chain(modelStep('one', { model: needsOld })), exact: 95 }));
    if (entered.state !== 'waiting') throw new Error('not waiting');
    expect(await decide()).toEqual([]);
    expect(await states()).toEqual([[order.id, 'failed', 'revised']]);
    expect(await db.sql`select key, state from residency`).toEqual([{ key: old, state: 'serving' }]);
    expect(await drainState(db.sql, ref, old)).toBe('stale');
    const [told] =
      await db.sql`select input_data ->> 'key' as key, input_data -> 'first' ->> 'row' as row from orchestration_decisions where output_data ->> 'id' = ${order.id} order by created_at desc limit 1`;
    expect(told).toEqual({ key: null, row: entered.row });
    expect(await beginUnload(db.sql, ref, old)).toBe(false);
    expect(await decideOnce(db.sql, policy)).toMatchObject({ granted: [{ grant: { row: entered.row } }] });
    // and the other model has its turn behind it
    const [again] = await decide();
    if (again === undefined) throw new Error('no order');
    expect(again).toMatchObject({ unload: [old], load: { key } });
    const next = { orderId: again.id, host, hostEpoch: 1 };
    expect(await drainState(db.sql, next, old)).toBe('busy');
    await db.sql`update line set state = 'void', cause = 'left', ended_at = now() where id = ${entered.row}`;
    expect(await drainState(db.sql, next, old)).toBe('idle');
    // what is being unloaded does not serve again
    await drainKeys(db.sql, next, [old]);
    expect(await beginUnload(db.sql, next, old)).toBe(true);
    await world.enter(await world.task({ plan: chain(modelStep('one', { model: needsOld })), exact: 95 }));
    expect(await decide()).toEqual([]);
    expect(await isOrderOpen(db.sql, next)).toBe(true);
    await removeDrained(db.sql, next, old);
    expect(await decide()).toMatchObject([{ load: { key: old } }]);
  });

  test('waits for a load that has begun, and for what a person has ordered [SCHED-09]', async () => {
    const { ref } = await ordered([old]);
    await beginLoad(db.sql, ref, key, need);
    await enterUrgent();
    expect(await decide()).toEqual([]);
    await db.sql`delete from residency where state = 'loading'`;
    await db.sql`update residency_orders set requested_by = 'ann'`;
    expect(await decide()).toEqual([]);
    await db.sql`update residency_orders set requested_by = null`;
    expect(await decide()).toHaveLength(1);
  });

  test('never together with its load: one of the two finds the other', async () => {
    const { ref } = await ordered([old]);
    await enterUrgent();
    const [begun, revised] = await Promise.all([beginLoad(db.sql, ref, key, need), decide()]);
    expect([begun, revised.length]).toSatisfy(([load, orders]) => (load ? orders === 0 : orders === 1));
    expect((await states()).filter(([, state]) => state === 'open')).toHaveLength(1);
  });
});
