import { pino } from 'pino';
import { expect, test, vi } from 'vitest';
import { startLoop } from '../../loop.js';

const log = pino({ level: 'silent' });

/** A job whose runs the test starts and ends by hand. */
function heldJob() {
  const runs: (() => void)[] = [];
  const run = () => new Promise<undefined>((resolve) => void runs.push(() => resolve(undefined)));
  return { run, runs, finish: () => runs.at(-1)?.() };
}

test('a loop never runs its job twice at once, and wake-ups during a run make one further run', async () => {
  const job = heldJob();
  const loop = startLoop({ name: 'test', everyMs: 60_000, run: job.run, log });
  loop.wake();
  loop.wake();
  expect(job.runs).toHaveLength(1);
  job.finish();
  await vi.waitFor(() => expect(job.runs).toHaveLength(2));
  job.finish();
  await loop.stop();
  expect(job.runs).toHaveLength(2);
});

test('a loop goes on after a failed run', async () => {
  let runs = 0;
  const loop = startLoop({
    name: 'test',
    everyMs: 1,
    log,
    run: async () => {
      runs += 1;
      if (runs === 1) throw new Error('first');
      return undefined;
    },
  });
  await vi.waitFor(() => expect(runs).toBeGreaterThan(2));
  await loop.stop();
});

test('stopping waits for the run under way', async () => {
  const job = heldJob();
  const loop = startLoop({ name: 'test', everyMs: 1, run: job.run, log });
  let stopped = false;
  const stopping = loop.stop().then(() => {
    stopped = true;
  });
  await Promise.resolve();
  expect(stopped).toBe(false);
  job.finish();
  await stopping;
  expect(job.runs).toHaveLength(1);
});
