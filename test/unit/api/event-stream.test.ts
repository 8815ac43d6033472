import { Hono } from 'hono';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import type { AppEnv } from '../../../api/env.js';
import { answerEvents } from '../../../api/event-stream.js';

/** A stream in which something happens all the time, to a reader whose key is revoked when `revoke` is called. */
async function busyStream(keyCheckMs: number) {
  let valid = true;
  let asked = 0;
  let released = 0;
  const app = new Hono<AppEnv>();
  app.get('/', (c) => {
    c.set('log', pino({ level: 'silent' }));
    c.set('stillValid', async () => {
      asked += 1;
      return valid;
    });
    const events = {
      async *read(signal: AbortSignal) {
        for (let id = 1; !signal.aborted; id += 1) {
          yield { id: `1.${id}`, task_id: '8f14e45f-ceea-467f-a0e6-7c1f9d2b3a44', at: '2026-01-09T10:30:00.000Z', kind: 'progress', data: {} };
        }
      },
      release: () => (released += 1),
    };
    return answerEvents(c, events, { keyCheckMs });
  });
  const reader = ((await app.request('/')).body as ReadableStream<Uint8Array>).getReader();
  return { reader, revoke: () => (valid = false), asked: () => asked, released: () => released };
}

test('a revoked key reads no further, however much happens [SEC-05]', async () => {
  const { reader, revoke, released } = await busyStream(0);
  for (let count = 0; count < 3; count += 1) expect((await reader.read()).done).toBe(false);
  revoke();
  let more = 0;
  while (!(await reader.read()).done) more += 1;
  expect(more).toBeLessThanOrEqual(2); // what was on its way already
  expect(released()).toBeGreaterThan(0);
});

test('the key is asked about by time and not before each event', async () => {
  const { reader, asked } = await busyStream(3_600_000);
  for (let count = 0; count < 1_000; count += 1) await reader.read();
  expect(asked()).toBe(0);
  await reader.cancel();
});
