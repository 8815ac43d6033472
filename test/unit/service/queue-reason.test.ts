import { expect, test } from 'vitest';
import { forecastReasons } from '../../../contract/forecast.js';
import { statusDetails } from '../../../contract/status.js';
import { ordinal, type Reason, reasonOf } from '../../../service/queue-reason.js';

const reason = (more: Partial<Reason>): Reason => ({
  position: 3,
  why: 'waiting_slot',
  model: 'qwen3:14b',
  host: 'gpu-1',
  other: 'llama3.1:8b',
  leftMs: 10_400,
  pause: null,
  ...more,
});
const none = { model: null, host: null, other: null, leftMs: null };

test.each<[Partial<Reason>, string]>([
  [{ why: 'waiting_slot' }, '3rd: waits for a free slot of qwen3:14b on gpu-1'],
  [{ why: 'waiting_slot', ...none }, '3rd: waits for a free slot'],
  [{ why: 'waiting_model' }, '3rd: waits for qwen3:14b, which will be loaded on gpu-1'],
  [{ why: 'waiting_model', host: null }, '3rd: waits for qwen3:14b, which will be loaded'],
  [{ why: 'behind' }, '3rd: waits for qwen3:14b, behind work for llama3.1:8b that goes first'],
  [{ why: 'behind', other: null }, '3rd: waits for qwen3:14b, behind work that goes first'],
  [{ why: 'quantum' }, '3rd: waits for qwen3:14b, which is loaded when llama3.1:8b has served 11 s more'],
  [{ why: 'quantum', leftMs: 0 }, '3rd: waits for qwen3:14b, which is loaded when llama3.1:8b has served 1 s more'],
  [{ why: 'quantum', leftMs: 130_000 }, '3rd: waits for qwen3:14b, which is loaded when llama3.1:8b has served 3 min more'],
  [{ why: 'quantum', leftMs: null, other: null }, '3rd: waits for qwen3:14b, which is loaded when another model has had its turn'],
  [{ why: 'changing' }, '3rd: waits for qwen3:14b until the change to llama3.1:8b on gpu-1 is done'],
  [{ why: 'changing', other: null }, '3rd: waits for qwen3:14b, which is being loaded on gpu-1'],
  [{ why: 'changing', other: 'qwen3:14b' }, '3rd: waits for qwen3:14b, which is being loaded on gpu-1'],
  [{ why: 'no_room' }, '3rd: waits for qwen3:14b, for which there is no memory beside llama3.1:8b on gpu-1'],
  [{ why: 'no_room', other: null, host: null }, '3rd: waits for qwen3:14b, for which there is no memory'],
  [{ why: 'backing_off' }, '3rd: waits for qwen3:14b, whose last load failed on gpu-1; it is tried again soon'],
  [{ why: 'no_host' }, '3rd: waits for qwen3:14b, since no host that has it is ready'],
  [{ why: 'no_host', ...none }, '3rd: waits, since no engine is running'],
  [{ why: 'paused' }, '3rd: is paused'],
  [{ why: 'paused', pause: { what: 'the queue', reason: null } }, '3rd: waits, since the queue is paused'],
  [{ why: 'paused', pause: { what: 'the host gpu-1', reason: 'new fan' } }, '3rd: waits, since the host gpu-1 is paused: new fan'],
  [{ why: 'held' }, '3rd: is held until it is released'],
  [{ why: 'waiting_dependency' }, '3rd: waits for other tasks'],
  [{ why: 'blocked' }, '3rd: is blocked, since a task that it waits for did not complete'],
  [{ why: 'waiting_lock' }, '3rd: waits for a lock that another task has'],
  [{ why: 'waiting_resource' }, '3rd: waits for resources that other tasks hold'],
  [{ why: 'reserved' }, '3rd: waits, since what it needs is kept for a task before it that lacks some of it'],
  [{ why: 'waiting_retry' }, '3rd: waits before its next attempt'],
  [{ why: 'cancelling' }, '3rd: is being cancelled'],
  [{ why: 'entering', ...none }, '3rd: is about to enter the line'],
])('%j is told as "%s" [SCHED-22]', (more, sentence) => {
  expect(reasonOf(reason(more))).toBe(sentence);
});

test('there is a sentence for every reason of a forecast and every detail of a status, with whatever is known [SCHED-22]', () => {
  for (const why of [...forecastReasons, ...statusDetails, 'entering' as const])
    for (const known of [{}, none]) expect(reasonOf(reason({ why, ...known }))).toMatch(/^3rd: [a-z].*[^.]$/);
});

test('places are counted as people count', () => {
  expect([1, 2, 3, 4, 10, 11, 12, 13, 21, 22, 23, 101, 111, 112, 1_000, 1_002].map(ordinal)).toEqual(
    '1st 2nd 3rd 4th 10th 11th 12th 13th 21st 22nd 23rd 101st 111th 112th 1000th 1002nd'.split(' '),
  );
});
