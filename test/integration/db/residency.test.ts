import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { ResidencyOrder } from '../../../contract/residency.js';
import { decideOnce } from '../../../db/decide.js';
import { checkInvariants } from '../../../db/invariants.js';
import { acquireHost, HostTaken, hostHolder, releaseHost, renewEngine, renewHost } from '../../../db/leases.js';
import { doneOutbox, laterOutbox, outboxDueMs, putOutbox, takeDue } from '../../../db/outbox.js';
import {
  abandonOrder,
  beginLoad,
  drainKeys,
  endOrder,
  forgetKey,
  isKeyBusy,
  isOrderOpen,
  readResidency,
  removeDrained,
  serveKey,
} from '../../../db/residency.js';
import { chain } from '../../support/plans.js';
import { createTestDatabase, type TestDatabase } from '../../support/servers.js';
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
    expect(await isKeyBusy(db.sql, ref, old)).toBe(false);
    await removeDrained(db.sql, ref, old);
    expect(await beginLoad(db.sql, ref, key, need)).toBe(true);
    expect(await beginLoad(db.sql, ref, key, need)).toBe(true);
    expect(await readResidency(db.sql, host, 1)).toMatchObject([{ key, state: 'loading', model: need }]);
    expect(await serveKey(db.sql, ref, key, loaded)).toBe(true);
    expect(await serveKey(db.sql, ref, key, loaded)).toBe(true);
    expect(await isOrderOpen(db.sql, ref)).toBe(false);
    expect(await decideOnce(db.sql, policy)).toMatchObject({ granted: [{ grant: { row } }] });
    expect(await isKeyBusy(db.sql, ref, key)).toBe(true);
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
    const holder = await hostHolder(db.sql, host);
    expect(await renewHost(db.sql, host, 1)).toBe(true);
    expect(await hostHolder(db.sql, host)).not.toBe(holder);
    await db.sql`update hosts set lease_until = now() - interval '1 second'`;
    expect(await hostHolder(db.sql, host)).toBeNull();
    expect(await renewHost(db.sql, host, 1)).toBe(false);
    expect(await acquireHost(db.sql, identity)).toBe(2);
    expect(await renewHost(db.sql, host, 1)).toBe(false);
    await releaseHost(db.sql, host, 1);
    expect(await renewHost(db.sql, host, 2)).toBe(true);
    await releaseHost(db.sql, host, 2);
    expect(await acquireHost(db.sql, identity)).toBe(3);
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
