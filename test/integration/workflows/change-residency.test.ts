import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Context } from '@temporalio/activity';
import type { Client } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import type { NativeConnection } from '@temporalio/worker';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DrainRequest, LoadRequest, OrderActivities, ResidencyActivities } from '../../../activities/residency.js';
import { orderWorkflowId, residencyWorkflowId } from '../../../contract/ids.js';
import { hostQueue, residencyKey, workflowQueue } from '../../../contract/queues.js';
import type { OrderFailure, ResidencyOrder } from '../../../contract/residency.js';
import { connectClient, connectNative } from '../../../temporal/client.js';
import { installRuntime } from '../../../temporal/runtime.js';
import { createActivityWorker, createWorkflowWorker } from '../../../temporal/worker.js';
import { changeResidencyType, orderSignal, residencyProgressQuery } from '../../../workflows/change-residency.messages.js';
import { eventually, takeNamespace, temporalAddress } from '../../support/servers.js';

installRuntime(pino({ level: 'silent' }));

/** What the activities were asked for, in order. */
type Move = readonly ['drain' | 'pull' | 'load', order: string];
type Abandoned = readonly [order: string, failure: OrderFailure];

let client: Client;
let native: NativeConnection;
let namespace: string;
let cacheDir: string;
let endWorker = () => {};
let worker: Promise<void>;
const abandoned = new Map<string, Abandoned[]>();
/** Times that closing an order of this host still has to fail. */
const abandonFailures = new Map<string, number>();
const abandonOrder: OrderActivities['abandonOrder'] = async (order, failure) => {
  const failures = abandonFailures.get(order.host) ?? 0;
  if (failures > 0) {
    abandonFailures.set(order.host, failures - 1);
    throw new Error('PostgreSQL is away');
  }
  abandoned.set(order.host, [...(abandoned.get(order.host) ?? []), [order.id, failure]]);
};

/** Orders that were made a fetch, or whose fetch has ended, by host. */
const apart = new Map<string, (readonly [move: 'first' | 'fetched', order: string])[]>();
const noteApart = (move: 'first' | 'fetched', { host, id }: ResidencyOrder) => void apart.set(host, [...(apart.get(host) ?? []), [move, id]]);
/** Times that a host still has to change something else when a fetch has ended. */
const busyHosts = new Map<string, number>();
const orders: OrderActivities = {
  abandonOrder,
  fetchFirst: async (order) => noteApart('first', order),
  async fetched(order) {
    noteApart('fetched', order);
    const times = busyHosts.get(order.host) ?? 0;
    busyHosts.set(order.host, times - 1);
    return times > 0 ? 'busy' : 'done';
  },
};

/** A host that nobody serves; its order has to wait half a minute, so it is given before the other tests. */
const silent = newHost();
let silentOrder: ResidencyOrder;

beforeAll(async () => {
  namespace = takeNamespace();
  const target = { address: temporalAddress(), namespace };
  client = await connectClient(target);
  native = await connectNative(target);
  cacheDir = await mkdtemp(path.join(tmpdir(), 'bundle-'));
  const workflows = await createWorkflowWorker({ connection: native, namespace, activities: { ...orders }, log: pino({ level: 'silent' }), cacheDir });
  worker = workflows.runUntil(new Promise<void>((resolve) => (endWorker = resolve)));
  silentOrder = orderOf(silent);
  await deliver(silentOrder);
}, 120_000);

afterAll(async () => {
  endWorker();
  await worker; // a worker that died fails the file here
  await native.close();
  await client.connection.close();
  await rm(cacheDir, { recursive: true });
});

function newHost(): string {
  return `host-${randomUUID()}`;
}
const need = { name: 'tiny:latest', numCtx: 4096 };
const other = residencyKey({ name: 'other:latest', numCtx: 4096 });
function orderOf(host: string, fields: Partial<ResidencyOrder> = {}): ResidencyOrder {
  return { id: randomUUID(), host, hostEpoch: 1, unload: [], load: { key: residencyKey(need), model: need }, ...fields };
}
/** As the outbox delivers it. */
const deliver = (order: ResidencyOrder) =>
  client.workflow.signalWithStart(changeResidencyType, {
    workflowId: orderWorkflowId(order),
    taskQueue: workflowQueue,
    args: [{ host: order.host }],
    signal: orderSignal,
    signalArgs: [order],
  });
const runOf = (host: string) => client.workflow.getHandle(residencyWorkflowId(host));

/** Serves a host's queue for as long as `use` takes; returns what it was asked for. */
async function onHost(host: string, fake: Partial<ResidencyActivities>, use: (moves: readonly Move[]) => Promise<unknown>): Promise<readonly Move[]> {
  const moves: Move[] = [];
  const activities: ResidencyActivities = {
    async drainAndUnload(request: DrainRequest) {
      moves.push(['drain', request.orderId]);
      return (await fake.drainAndUnload?.(request)) ?? 'done';
    },
    async pullModel(request: LoadRequest) {
      moves.push(['pull', request.orderId]);
      return (await fake.pullModel?.(request)) ?? 'done';
    },
    async loadAndServe(request: LoadRequest) {
      moves.push(['load', request.orderId]);
      return (await fake.loadAndServe?.(request)) ?? 'serving';
    },
  };
  const served = await createActivityWorker({ connection: native, namespace, taskQueue: hostQueue(host), activities, slots: 2, graceMs: 1_000 });
  await served.runUntil(use(moves));
  return moves;
}

/** Something that a test lets go. */
function gate() {
  let open = () => {};
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { open, opened };
}

describe('an order', () => {
  test('unloads first, and loads then [MODEL-05]', async () => {
    const host = newHost();
    const order = orderOf(host, { unload: [other] });
    const requests: object[] = [];
    const fake: Partial<ResidencyActivities> = {
      drainAndUnload: async (request) => {
        requests.push(request);
        return 'done';
      },
      loadAndServe: async (request) => {
        requests.push(request);
        return 'serving';
      },
    };
    const moves = await onHost(host, fake, async () => (await deliver(order)).result());
    expect(moves.map(([move]) => move)).toEqual(['drain', 'load']);
    const ref = { orderId: order.id, host, hostEpoch: 1 };
    expect(requests).toEqual([
      { ...ref, keys: [other], last: false, needs: need },
      { ...ref, key: residencyKey(need), model: need },
    ]);
    expect(abandoned.get(host)).toBeUndefined();
  });

  test.each<{ when: string; fake: Partial<ResidencyActivities>; moves: readonly string[] }>([
    { when: 'it would unload', fake: { drainAndUnload: async () => 'missing' }, moves: ['drain'] },
    { when: 'it would load', fake: { loadAndServe: async () => 'missing' }, moves: ['drain', 'load'] },
  ])('whose model is not there when $when becomes a fetch, and its workflow goes on with others [MODEL-04]', async ({ fake, moves }) => {
    const host = newHost();
    const order = orderOf(host, { unload: [other] });
    const seen = await onHost(host, fake, async () => (await deliver(order)).result());
    expect(seen.map(([move]) => move)).toEqual(moves);
    expect(apart.get(host)).toEqual([['first', order.id]]);
    expect(abandoned.get(host)).toBeUndefined();
  });

  test('that fetches only pulls, and is handed on as soon as its host is free', async () => {
    const host = newHost();
    const order = orderOf(host, { pull: need.name });
    busyHosts.set(host, 1);
    const requests: object[] = [];
    const fake: Partial<ResidencyActivities> = {
      pullModel: async (request) => {
        requests.push(request);
        return 'done';
      },
    };
    const moves = await onHost(host, fake, async () => (await deliver(order)).result());
    expect(moves.map(([move]) => move)).toEqual(['pull']);
    expect(requests).toEqual([{ orderId: order.id, host, hostEpoch: 1, key: residencyKey(need), model: { name: need.name }, last: false }]);
    expect(apart.get(host)).toEqual([
      ['fetched', order.id],
      ['fetched', order.id],
    ]);
  });

  test('that only unloads says that nothing comes after', async () => {
    const host = newHost();
    const lasts: boolean[] = [];
    const fake: Partial<ResidencyActivities> = {
      drainAndUnload: async ({ last }) => {
        lasts.push(last);
        return 'done';
      },
    };
    const moves = await onHost(host, fake, async () => (await deliver(orderOf(host, { unload: [other], load: null }))).result());
    expect(moves.map(([move]) => move)).toEqual(['drain']);
    expect(lasts).toEqual([true]);
  });

  test.each<{ when: string; pull?: string; fake: Partial<ResidencyActivities>; moves: readonly string[] }>([
    { when: 'it unloads', fake: { drainAndUnload: async () => 'stale' }, moves: ['drain'] },
    { when: 'it loads', fake: { loadAndServe: async () => 'stale' }, moves: ['drain', 'load'] },
    { when: 'it pulls', pull: need.name, fake: { pullModel: async () => 'stale' }, moves: ['pull'] },
  ])('that is stale when $when does nothing more, and nobody is told of a failure', async ({ pull, fake, moves }) => {
    const host = newHost();
    const order = pull === undefined ? orderOf(host, { unload: [other] }) : orderOf(host, { pull });
    const seen = await onHost(host, fake, async () => (await deliver(order)).result());
    expect(seen.map(([move]) => move)).toEqual(moves);
    expect(apart.get(host)).toBeUndefined();
    expect(abandoned.get(host)).toBeUndefined();
  });

  test('of another host has no effect', async () => {
    const host = newHost();
    const mine = orderOf(host);
    const held = gate();
    const fake: Partial<ResidencyActivities> = {
      loadAndServe: async () => {
        await held.opened;
        return 'serving';
      },
    };
    const moves = await onHost(host, fake, async () => {
      const run = await deliver(mine);
      await run.signal(orderSignal, orderOf(newHost()));
      held.open();
      await run.result();
    });
    expect(moves).toEqual([['load', mine.id]]);
  });
});

describe('an order that fails', () => {
  test('is abandoned with the code of its failure, not tried again, and the next one is carried out [MODEL-13]', async () => {
    const host = newHost();
    const [first, second] = [orderOf(host), orderOf(host)];
    const held = gate();
    const fake: Partial<ResidencyActivities> = {
      loadAndServe: async ({ orderId }) => {
        if (orderId !== first.id) return 'serving';
        await held.opened;
        throw ApplicationFailure.nonRetryable('it needs 9 GB', 'model_out_of_memory', { retryable: false });
      },
    };
    const moves = await onHost(host, fake, async () => {
      const run = await deliver(first);
      await deliver(second);
      held.open();
      await run.result();
    });
    expect(abandoned.get(host)).toEqual([[first.id, { code: 'model_out_of_memory', message: 'it needs 9 GB', retryable: false, phase: 'loading' }]]);
    expect(moves).toEqual([
      ['load', first.id],
      ['load', second.id],
    ]);
  });

  test('while it unloads says so, since that is no fault of what it would load [fault-28]', async () => {
    const host = newHost();
    const order = orderOf(host, { unload: [other] });
    const drainAndUnload = async () => {
      throw ApplicationFailure.nonRetryable('Ollama did not unload it', 'backend_failed', { retryable: true });
    };
    await onHost(host, { drainAndUnload }, async () => (await deliver(order)).result());
    expect(abandoned.get(host)).toMatchObject([[order.id, { code: 'backend_failed', phase: 'draining' }]]);
  });

  test('is closed once PostgreSQL answers again, however often it did not', async () => {
    const host = newHost();
    const order = orderOf(host);
    abandonFailures.set(host, 3);
    const fail = async () => {
      throw ApplicationFailure.nonRetryable('no such model', 'model_not_found', { retryable: false });
    };
    await onHost(host, { loadAndServe: fail }, async () => (await deliver(order)).result());
    expect(abandonFailures.get(host)).toBe(0);
    expect(abandoned.get(host)).toMatchObject([[order.id, { code: 'model_not_found' }]]);
  });

  test('by an error without a name is tried again until it succeeds', async () => {
    const host = newHost();
    let loads = 0;
    const fake: Partial<ResidencyActivities> = {
      loadAndServe: async () => {
        if (++loads === 1) throw new Error('PostgreSQL is away');
        return 'serving';
      },
    };
    await onHost(host, fake, async () => (await deliver(orderOf(host))).result());
    expect(loads).toBe(2);
    expect(abandoned.get(host)).toBeUndefined();
  });
});

describe('an order that comes while another is carried out', () => {
  test('waits for its turn, and a repeat of either is no second order', async () => {
    const host = newHost();
    const [first, second, third] = [orderOf(host), orderOf(host), orderOf(host)];
    const held = gate();
    const fake: Partial<ResidencyActivities> = {
      loadAndServe: async () => {
        await held.opened;
        return 'serving';
      },
    };
    const moves = await onHost(host, fake, async (seen) => {
      const run = await deliver(first);
      await eventually(() => seen.length === 1);
      for (const order of [second, first, third, second]) await deliver(order);
      expect(await run.query(residencyProgressQuery)).toEqual({ order: first.id, phase: 'loading', waiting: 2 });
      expect(seen).toHaveLength(1);
      held.open();
      await run.result();
    });
    expect(moves).toEqual([first, second, third].map(({ id }) => ['load', id]));
    expect(abandoned.get(host)).toBeUndefined();
  });

  test('for a newer epoch of the host does not wait: the present one is abandoned as host_lost', async () => {
    const host = newHost();
    const [before, after] = [orderOf(host), orderOf(host, { hostEpoch: 2 })];
    const held = gate();
    const fake: Partial<ResidencyActivities> = {
      loadAndServe: async ({ hostEpoch }) => {
        if (hostEpoch === 1) await held.opened; // a process that hears of nothing any more
        return 'serving';
      },
    };
    const moves = await onHost(host, fake, async (seen) => {
      const run = await deliver(before);
      await eventually(() => seen.length === 1);
      await deliver(after);
      await run.result(); // though the first load still hangs
      held.open();
    });
    expect(moves).toEqual([
      ['load', before.id],
      ['load', after.id],
    ]);
    expect(abandoned.get(host)).toMatchObject([[before.id, { code: 'host_lost', retryable: true }]]);
  });

  test('is never lost, also when the run ends at that moment', async () => {
    const host = newHost();
    const orders = Array.from({ length: 30 }, () => orderOf(host));
    const runs = new Set<string>();
    const moves = await onHost(host, {}, async (seen) => {
      for (const order of orders) {
        runs.add((await deliver(order)).signaledRunId);
        // Two of three come when the order before has just been carried out, so close to the end of the run; the others come during it.
        if (orders.indexOf(order) % 3 !== 0) await eventually(() => seen.some(([, id]) => id === order.id));
      }
      await runOf(host).result();
    });
    expect(moves.map(([, id]) => id)).toEqual(orders.map(({ id }) => id));
    expect(runs.size).toBeGreaterThan(1); // else no order came near an end
  });
});

test('a run that somebody cancels abandons its orders, so that none blocks the host', async () => {
  const host = newHost();
  const [first, second] = [orderOf(host), orderOf(host)];
  const fake: Partial<ResidencyActivities> = {
    loadAndServe: async (): Promise<never> => {
      const beats = setInterval(() => Context.current().heartbeat(), 500);
      try {
        return await Context.current().cancelled;
      } finally {
        clearInterval(beats);
      }
    },
  };
  await onHost(host, fake, async (seen) => {
    const run = await deliver(first);
    await deliver(second);
    await eventually(() => seen.length === 1);
    await run.cancel();
    await run.result().catch(() => {});
  });
  expect(abandoned.get(host)).toMatchObject([
    [first.id, { code: 'host_lost' }],
    [second.id, { code: 'host_lost' }],
  ]);
});

test('a run whose history grows long continues as a new one, which has the waiting orders', async () => {
  const host = newHost();
  const [first, second, third] = [orderOf(host), orderOf(host), orderOf(host)];
  const held = gate();
  const fake: Partial<ResidencyActivities> = {
    loadAndServe: async ({ orderId }) => {
      if (orderId === first.id) await held.opened;
      return 'serving';
    },
  };
  const moves = await onHost(host, fake, async (seen) => {
    const run = await deliver(first);
    await eventually(() => seen.length === 1);
    // The server suggests it from 4 MB of history on. Orders of another host are dropped, so that only the history keeps them.
    const ballast = { ...orderOf(newHost()), unload: ['x'.repeat(1_000_000)] };
    for (let megabytes = 0; megabytes < 5; megabytes += 1) await run.signal(orderSignal, ballast);
    await deliver(second);
    await deliver(third);
    held.open();
    await run.result(); // follows the chain of runs
    const before = client.workflow.getHandle(run.workflowId, run.signaledRunId, { followRuns: false });
    expect((await before.describe()).status.name).toBe('CONTINUED_AS_NEW');
    const events = (await runOf(host).fetchHistory()).events ?? [];
    expect(events[0]?.workflowExecutionStartedEventAttributes?.continuedExecutionRunId).toBe(run.signaledRunId);
  });
  expect(moves).toEqual([first, second, third].map(({ id }) => ['load', id]));
  expect(abandoned.get(host)).toBeUndefined();
});

test('an order for a host that does not answer is abandoned as host_lost, and may be given again', async () => {
  await runOf(silent).result();
  expect(abandoned.get(silent)).toEqual([[silentOrder.id, { code: 'host_lost', message: 'the host does not answer', retryable: true, phase: 'loading' }]]);
});
