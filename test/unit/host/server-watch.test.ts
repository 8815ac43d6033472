import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import type { LoadedModel, ModelBackend } from '../../../activities/backends/backend.js';
import type { ResidencyRow } from '../../../contract/residency.js';
import { createOneAtATime } from '../../../host/one-at-a-time.js';
import { watchServer, watchTimes, type WatchRows } from '../../../host/server-watch.js';
import { oneModel } from '../../../db/leases.js';

const loaded = (name: string): LoadedModel => ({
  ...{ name, digest: `sha256:${name}`, memoryBytes: 14, vramBytes: 14, contextLength: 4_096, expiresAtMs: null, runner: name },
});

/** Looks at a server under one epoch, then under the next. @returns whose memory counts as the host's own, of each epoch's first look */
async function ownUnder(epochs: readonly number[], heldBefore: (epoch: number) => readonly string[], wanted: readonly ResidencyRow[] = []) {
  const own = new Map<number, readonly string[]>();
  let epoch = epochs[0] ?? 0;
  const rows: WatchRows = {
    residency: async () => wanted,
    heldBefore: async () => heldBefore(epoch),
    setReady: async () => {},
    forget: async () => {},
    seen: async () => {},
    ofSameServer: async () => null,
    allUnloaded: async () => {},
  };
  const models = {
    version: async () => '1',
    loaded: async () => [loaded('left:latest'), loaded('foreign:latest')],
    installed: async () => [],
  } as unknown as ModelBackend;
  const watch = watchServer({
    host: 'h',
    models,
    rows,
    lease: () => ({ epoch, lost: new AbortController().signal }),
    changes: createOneAtATime(),
    times: { ...watchTimes, pollEveryMs: 5, pollPauseMs: 0, retryEveryMs: 5 },
    versionWarning: () => null,
    notOurs: async () => null,
    room: async (_loaded, ours) => {
      if (!own.has(epoch)) own.set(epoch, [...ours]);
      return oneModel;
    },
    onTaken: () => {},
    closed: () => null,
    log: pino({ level: 'silent' }),
  });
  for (const each of epochs) {
    epoch = each;
    while (!own.has(each)) await delay(2);
  }
  await watch.stop();
  return epochs.map((each) => own.get(each));
}

test('what an earlier epoch of the host has left in memory takes no room from what is wanted now [fault-31]', async () => {
  expect(await ownUnder([7], () => ['left:latest'])).toEqual([['left:latest']]);
});

test('it is asked for with each epoch, and what the host never held is foreign', async () => {
  expect(await ownUnder([7, 8], (epoch) => (epoch === 7 ? [] : ['left:latest']))).toEqual([[], ['left:latest']]);
});
