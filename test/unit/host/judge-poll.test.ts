import { expect, test } from 'vitest';
import type { LoadedModel } from '../../../activities/backends/backend.js';
import type { ResidencyRow } from '../../../contract/residency.js';
import { judgePoll, type LoadMemory } from '../../../host/judge-poll.js';

const limits = { keepAliveEveryMs: 240_000, settleMs: 30_000 };
const nowMs = 1_000_000;
const row: ResidencyRow = { host: 'desk', hostEpoch: 1, key: 'a:1~ctx2048', model: { name: 'a:1', numCtx: 2048 }, state: 'serving', sinceMs: 0 };
const loaded: LoadedModel = { name: 'a:1', digest: 'd', memoryBytes: 1, vramBytes: 0, contextLength: 2048, expiresAtMs: null, runner: 'd' };
const remembered = (memory: Partial<LoadMemory>) =>
  new Map<string, LoadMemory>([[row.key, { contextLength: 2048, leasedAtMs: nowMs - 1_000, reloadedAtMs: null, ...memory }]]);
const judge = (present: readonly LoadedModel[], memory: ReadonlyMap<string, LoadMemory>) => judgePoll([row], present, memory, nowMs, limits);
const nothing = { reload: [], giveUp: [], renew: [] };

test('a served model that is there asks for nothing', () => {
  expect(judge([loaded], remembered({}))).toEqual(nothing);
});

test('a served model that another of its names loaded is there [fault-28]', () => {
  expect(judge([{ ...loaded, name: 'alias:1' }, loaded], remembered({}))).toEqual(nothing);
});

test('a served model that somebody unloaded is loaded again [fault-28]', () => {
  expect(judge([], remembered({}))).toEqual({ ...nothing, reload: [row] });
});

test('a served model that somebody loaded with another context is loaded again [fault-28]', () => {
  expect(judge([{ ...loaded, contextLength: 8192 }], remembered({}))).toEqual({ ...nothing, reload: [row] });
});

test('a context that the server itself cut at load time is no difference', () => {
  expect(judge([{ ...loaded, contextLength: 512 }], remembered({ contextLength: 512 }))).toEqual(nothing);
});

test('a model that goes again right after its reload is given up, so that nobody fights over the memory [fault-28]', () => {
  expect(judge([], remembered({ reloadedAtMs: nowMs - 29_000 }))).toEqual({ ...nothing, giveUp: [row] });
  expect(judge([], remembered({ reloadedAtMs: nowMs - 30_000 }))).toEqual({ ...nothing, reload: [row] });
});

test('a lease is renewed in time, and when nobody knows its age', () => {
  expect(judge([loaded], remembered({ leasedAtMs: nowMs - 240_000 }))).toEqual({ ...nothing, renew: [row] });
  expect(judge([loaded], new Map())).toEqual({ ...nothing, renew: [row] });
});

test('what others load asks for nothing', () => {
  expect(judgePoll([], [loaded], new Map(), nowMs, limits)).toEqual(nothing);
});
