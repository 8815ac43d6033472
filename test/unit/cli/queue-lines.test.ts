import { expect, test } from 'vitest';
import type { Models, QueuePage } from '../../../client/shapes.js';
import { overviewLines, pauseLines, queueColumns } from '../../../cli/queue-lines.js';
import { layOut } from '../../../cli/terminal.js';

const nowMs = Date.parse('2030-01-01T00:00:00Z');
const paint = (_color: string, text: string) => text;
const at = (seconds: number) => new Date(nowMs + seconds * 1_000).toISOString();

const entry: QueuePage['items'][number] = {
  task_id: '8f14e45f-ceea-467f-a0e6-7c1f9d2b3a44',
  name: 'notes\u001b[2J',
  template: 'ollama-inference',
  user_id: 'ann',
  status: 'queued',
  status_detail: 'waiting_model',
  priority: 5,
  exact: 50,
  arrival: 1,
  position: 1,
  step: 'write',
  model: 'qwen3:14b',
  host: 'gpu-1',
  waiting_since: at(-60),
  estimated_start_time: at(21),
  estimated_start_interval: [at(15), at(40)],
  estimated_completion_time: at(90),
  estimated_completion_interval: [at(80), at(100)],
  reason: '1st: waits for qwen3:14b, which will be loaded on gpu-1',
};
const foreign = { ...entry, position: 2, task_id: null, name: null, step: null, estimated_start_time: null, estimated_start_interval: null, reason: null };
const model = { host: 'gpu-1', shares_memory_with: [], loaded: true, serving: true, queue_depth: 3, memory_bytes: 6_650_000_000 };
const models = {
  items: [
    { ...model, name: 'llama3.1:8b' },
    { ...model, name: 'idle', loaded: false, serving: false },
  ],
  hosts: [
    { id: 'gpu-1', ready: true, why: null },
    { id: 'gpu-2', ready: false, why: 'the server is away' },
  ],
  aliases: [],
} as unknown as Models;
const queue: QueuePage = {
  items: [entry, foreign],
  next_cursor: null,
  total: 40,
  version: 3,
  made_at: at(-1),
  pauses: [{ scope: 'model', name: 'phi', by: 'root', reason: 'new version', at: at(-5) }],
  running: [
    {
      task_id: entry.task_id,
      name: 'other',
      priority: 5,
      step: 'write',
      model: 'llama3.1:8b',
      host: 'gpu-1',
      started_at: at(-12),
      progress: { phase: 'tokens', done: 7, total: null },
      estimated_completion_time: at(30),
    },
  ],
  changes: [],
};

test('an entry is told with its start, the interval of it and the reason, another user’s without them [SCHED-22]', () => {
  const [, mine, other] = layOut(queueColumns(nowMs), queue.items, 300, paint);
  expect(mine).toMatch(
    /^1 +8f14e45f +5 +notes\\x1b\[2J +write +qwen3:14b +in 21 s \(15 s to 40 s\) +in 1 min +waits for qwen3:14b, which will be loaded on gpu-1$/,
  );
  expect(other).toMatch(/^2 +- +5 +of another user +qwen3:14b/);
});

test('the overview has hosts with their memory and what is loaded next, what runs, and the head of the queue [SCHED-22]', () => {
  const lines = overviewLines({ queue, models }, { paint }, { columns: 200, rows: 40 }, nowMs);
  const text = lines.join('\n');
  for (const part of [
    '1 running, 40 waiting',
    'model phi is paused by root: new version',
    'gpu-1  6.7 GB in 1 model',
    '* llama3.1:8b  6.7 GB  3 waiting',
    'next: qwen3:14b, in 21 s',
    'tokens 7',
    '12 s',
    'gpu-2  0.0 GB in 0 models\n  takes no work: the server is away',
  ])
    expect(text).toContain(part);
  expect(text).not.toContain('idle');
  const change = { host: 'gpu-1', load: 'qwen3:14b', pull: null, unload: ['llama3.1:8b'], reason: 'its work is older', since: at(-1) };
  const changing = { ...queue, changes: [change, { ...change, load: null, pull: 'phi4', unload: [], reason: 'asked for by ann' }] };
  expect(overviewLines({ queue: changing, models }, { paint }, { columns: 200, rows: 40 }, nowMs).join('\n')).toContain(
    '  unloads llama3.1:8b, loads qwen3:14b: its work is older\n  fetches phi4: asked for by ann',
  );
});

test('memory that several models share is counted once', () => {
  const shared = {
    items: [model, model].map((each, index) => ({ ...each, name: `m${index}`, shares_memory_with: [`m${1 - index}`] })),
    hosts: [],
  } as unknown as Models;
  const text = overviewLines({ queue, models: shared }, { paint }, { columns: 200, rows: 40 }, nowMs).join('\n');
  expect(text).toContain('gpu-1  6.7 GB in 2 models');
});

test('no line of the overview is wider than the window, and the head of the queue fills what is left of it', () => {
  const many = { ...queue, items: Array.from({ length: 100 }, (_, index) => ({ ...entry, position: index + 1 })) };
  const lines = overviewLines({ queue: many, models }, { paint }, { columns: 100, rows: 24 }, nowMs);
  expect(lines.length).toBeLessThanOrEqual(24);
  expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(100);
});

test('pauses are told in a line each', () => {
  expect(pauseLines([{ scope: 'queue', name: null, by: null, reason: null, at: at(0) }])).toEqual(['the queue is paused']);
});
