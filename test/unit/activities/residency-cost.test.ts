import { asyncLocalStorage, type Context } from '@temporalio/activity';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import type { ModelBackend } from '../../../activities/backends/backend.js';
import { createResidencyActivities, type MeasuredLoad, type OrderRows } from '../../../activities/residency.js';

const order = { orderId: '5d3f0f7e-4b0a-4c8a-9c2a-0b8d3a1e7f10', host: 'gpu-1', hostEpoch: 1 };
const model = { name: 'new:latest', numCtx: 4_096 };

/** A host that says when things happened; `served` is what is learned of its loads. */
function hostUnderTest({ installed = true, pulled = true, kept = [] as readonly string[] } = {}) {
  const served: MeasuredLoad[] = [];
  const unloaded: string[] = [];
  const atMs = { lastBusy: 0, idle: 0, loadBegan: 0, loadEnded: 0, pulled: 0, served: 0 };
  let looks = 0;
  let there = installed;
  const rows = {
    isOpen: async () => true,
    drain: async (_order, keys) => [...keys],
    async drainState() {
      looks += 1;
      atMs[looks < 10 ? 'lastBusy' : 'idle'] = performance.now();
      return looks < 10 ? 'busy' : 'idle';
    },
    beginUnload: async () => true,
    keptBeside: async () => kept,
    removeDrained: async () => {},
    end: async () => {},
    beginLoad: async () => true,
    async serve(_order, _key, loaded) {
      atMs.served = performance.now();
      served.push(loaded);
      return true;
    },
    recordPull: async () => {},
    noteInstalled: async () => {},
    endPull: async () => {},
  } satisfies OrderRows;
  const loaded = { name: model.name, digest: 'sha256:1', memoryBytes: 1, vramBytes: 1, contextLength: 4_096, expiresAtMs: null, runner: 'sha256:1' };
  const models = {
    installed: async () => [...(there ? [model.name] : []), 'variant:latest', 'apart:latest'].map((name) => ({ name })),
    loaded: async () => [
      { ...loaded, name: 'old:latest', runner: 'shared' },
      { ...loaded, name: 'variant:latest', runner: 'shared' },
      { ...loaded, name: 'apart:latest', runner: 'apart' },
    ],
    async unload(name: string) {
      unloaded.push(name);
      await delay(50);
    },
    async load() {
      atMs.loadBegan = performance.now();
      await delay(20);
      atMs.loadEnded = performance.now();
      return loaded;
    },
    async pull() {
      await delay(20);
      atMs.pulled = performance.now();
      there = pulled;
    },
  } as unknown as ModelBackend;
  const activities = createResidencyActivities({
    host: order.host,
    rows,
    models,
    lease: () => ({ epoch: 1, lost: new AbortController().signal }),
    exclusively: (change) => change(),
    onLoaded: () => {},
    lineChange: () => delay(5),
    log: pino({ level: 'silent' }),
  });
  const context = { cancellationSignal: new AbortController().signal, heartbeat: () => {} } as unknown as Context;
  return {
    served,
    unloaded,
    atMs,
    call: <T>(work: (of: typeof activities) => Promise<T>): Promise<T> => asyncLocalStorage.run(context, () => work(activities)),
  };
}

test('a change costs the time from the last step of what leaves until the new model is there, and none for which that still worked', async () => {
  const { served, atMs, call } = hostUnderTest();
  await call((host) => host.drainAndUnload({ ...order, keys: ['old:latest~ctx4096'], last: false }));
  await call((host) => host.loadAndServe({ ...order, key: 'new:latest~ctx4096', model }));
  const cost = served[0]?.loadMs ?? 0;
  expect(cost).toBeGreaterThanOrEqual(atMs.loadEnded - atMs.idle);
  expect(cost).toBeLessThanOrEqual(atMs.served - atMs.lastBusy);
});

test('where nothing leaves, it is the load', async () => {
  const { served, atMs, call } = hostUnderTest();
  const begunMs = performance.now();
  await call((host) => host.loadAndServe({ ...order, key: 'new:latest~ctx4096', model }));
  const cost = served[0]?.loadMs ?? 0;
  expect(cost).toBeGreaterThanOrEqual(atMs.loadEnded - atMs.loadBegan);
  expect(cost).toBeLessThanOrEqual(atMs.served - begunMs);
});

test('nothing is unloaded for a model that has to be fetched first', async () => {
  const { atMs, call } = hostUnderTest({ installed: false });
  expect(await call((host) => host.drainAndUnload({ ...order, keys: ['old:latest~ctx4096'], last: false, needs: model }))).toBe('missing');
  expect(atMs.lastBusy).toBe(0); // not even drained
  const there = hostUnderTest();
  expect(await there.call((host) => host.drainAndUnload({ ...order, keys: ['old:latest~ctx4096'], last: false, needs: model }))).toBe('done');
});

test('a model that is not there after its pull is a failure, since it would be fetched again for ever [MODEL-13]', async () => {
  const { call } = hostUnderTest({ installed: false, pulled: false });
  const pull = call((host) => host.pullModel({ ...order, key: null, model: { name: 'new:latest' }, last: false }));
  await expect(pull).rejects.toMatchObject({ type: 'model_pull_failed' });
});

test('a first fetch is no cost of a change', async () => {
  const { served, atMs, call } = hostUnderTest({ installed: false });
  await call((host) => host.drainAndUnload({ ...order, keys: ['old:latest~ctx4096'], last: false }));
  const request = { ...order, key: 'new:latest~ctx4096', model };
  expect(await call((host) => host.loadAndServe(request))).toBe('missing');
  await call((host) => host.pullModel({ ...request, last: false }));
  await call((host) => host.loadAndServe(request));
  expect(served[0]?.loadMs ?? Infinity).toBeLessThanOrEqual(atMs.served - atMs.pulled);
});

test('what another model is answered from is not unloaded while that is served, or is to be loaded instead [MODEL-05]', async () => {
  const drain = { ...order, keys: ['old:latest~ctx4096'], last: true };
  for (const [kept, needs, expected] of [
    [[], undefined, ['old:latest']],
    [['apart:latest'], undefined, ['old:latest']],
    [['variant'], undefined, []],
    [[], { name: 'variant:latest' }, []],
    [[], { name: 'apart:latest' }, ['old:latest']],
  ] as const) {
    const { unloaded, call } = hostUnderTest({ kept });
    const request = needs === undefined ? drain : { ...drain, needs };
    expect(await call((host) => host.drainAndUnload(request))).toBe('done');
    expect(unloaded).toEqual(expected);
  }
});
