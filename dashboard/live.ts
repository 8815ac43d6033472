import { streamSSE } from 'hono/streaming';
import type { Hono, MiddlewareHandler } from 'hono';
import { setTimeout as delay } from 'node:timers/promises';
import { callerOf } from '../api/auth/authenticate.js';
import type { AppEnv } from '../api/env.js';
import { ProblemError } from '../contract/problems.js';
import { type ChangeTopic, changeTopics } from '../service/changes.js';

/** The shortest time between two signs of a change to one page. */
const restMs = 400;
/** A proxy between may close what is silent for longer. */
const signOfLifeMs = 15_000;

/**
 * Serves `/live?topics=queue,tasks`: one event `changed` whenever something of these topics has changed, so that an open page draws itself anew. It carries
 * nothing of what has changed, and ends when the sign-in does.
 */
export function serveLive(app: Pick<Hono<AppEnv>, 'get'>, signedIn: MiddlewareHandler<AppEnv>): void {
  app.get('/live', signedIn, (c) => {
    const asked = (c.req.query('topics') ?? '').split(',').filter((name): name is ChangeTopic => (changeTopics as readonly string[]).includes(name));
    if (asked.length === 0) throw new ProblemError('invalid_request', `Name what to follow: /live?topics= with ${changeTopics.join(', ')}.`);
    const { services } = c.var;
    c.header('X-Accel-Buffering', 'no');
    // Nobody takes the body of an answer to HEAD, so nobody would ever let go of the stream.
    if (c.req.raw.method === 'HEAD') return c.body(null, 200, { 'Content-Type': 'text/event-stream' });
    const release = services.openStream(callerOf(c));
    const stillValid = c.var.stillValid ?? (async () => true);
    return streamSSE(
      c,
      async (stream) => {
        const ending = new AbortController();
        stream.onAbort(() => ending.abort());
        try {
          let seen = services.changes.counts;
          await stream.write('retry: 2000\n\n');
          while (!stream.aborted && !services.changes.closed && (await stillValid())) {
            const counts = await services.changes.next(asked, seen, { waitMs: signOfLifeMs, signal: ending.signal });
            const different = asked.filter((topic) => counts[topic] !== seen[topic]);
            seen = counts;
            if (different.length === 0) await stream.write(': nothing has changed\n\n');
            else await stream.writeSSE({ event: 'changed', data: different.join(',') });
            await delay(restMs, undefined, { signal: ending.signal }).catch(() => {});
          }
        } finally {
          release();
        }
      },
      async (error) => c.var.log.warn({ err: error }, 'a page is not followed any more'),
    );
  });
}
