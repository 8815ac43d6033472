import type { Context } from 'hono';
import type { EventView } from '../contract/schemas/event.js';
import type { EventStream } from '../service/events.js';
import type { AppEnv } from './env.js';

/** What a browser waits before it connects again. */
const reconnectMs = 2_000;
/** A reader that takes nothing for so long is let go; it goes on by its Last-Event-ID. */
const stalledMs = 30_000;
/** A key that was revoked reads on for so long at most, however much happens; not asked before each event, since that would be a query for each. */
const keyCheckMs = 5_000;
const headers = { 'Content-Type': 'text/event-stream; charset=utf-8', 'X-Accel-Buffering': 'no' };
const kindForm = /^[a-z][a-z_]*$/;

/**
 * Answers with a stream of server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html). An event is fetched when the reader has
 * taken the one before, so that a slow reader fills no memory. Ends with the stream, when the reader goes, and when its key is no longer valid.
 * @param options.keyCheckMs a frame is sent only when the key was found valid within this time
 */
export function answerEvents(c: Context<AppEnv>, events: EventStream, options: { readonly keyCheckMs: number } = { keyCheckMs }): Response {
  // Nobody takes the body of an answer to HEAD, so nobody would ever let go of the stream.
  if (c.req.raw.method === 'HEAD') {
    events.release();
    return c.body(null, 200, headers);
  }
  const ending = new AbortController();
  const source = events.read(ending.signal);
  const encoder = new TextEncoder();
  const stillValid = c.var.stillValid ?? (async () => true);
  const { log } = c.var;
  let validAt = performance.now(); // the request itself was let in with the key
  const mayRead = async () => {
    const now = performance.now();
    if (now - validAt < options.keyCheckMs) return true;
    validAt = now;
    return stillValid();
  };
  let stalled: NodeJS.Timeout | undefined;
  const end = () => {
    clearTimeout(stalled);
    ending.abort();
    events.release();
    source.return(undefined).catch(() => {}); // what it waits for has ended with the signal
  };
  c.req.raw.signal.addEventListener('abort', end, { once: true });
  const body = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        controller.enqueue(encoder.encode(`retry: ${reconnectMs}\n\n`));
      },
      async pull(controller) {
        clearTimeout(stalled);
        try {
          const next = await source.next();
          if (next.done || !(await mayRead())) {
            end();
            controller.close();
            return;
          }
          controller.enqueue(encoder.encode(next.value === null ? ': nothing happened\n\n' : frameOf(next.value)));
          stalled = setTimeout(() => {
            log.info('a reader of events takes nothing and is let go');
            end();
            controller.error(new Error('the reader takes nothing'));
          }, stalledMs);
        } catch (error) {
          log.warn({ err: error }, 'a stream of events broke');
          end();
          controller.error(error);
        }
      },
      cancel: end,
    },
    { highWaterMark: 1 },
  );
  return c.body(body, 200, headers);
}

/** JSON has no line breaks of its own, so that nothing in an event can begin another field or another event. */
function frameOf(event: EventView): string {
  const kind = kindForm.test(event.kind) ? event.kind : 'message';
  return `id: ${event.id}\nevent: ${kind}\ndata: ${JSON.stringify(event)}\n\n`;
}

/** Whether the caller asks for stored events as JSON; a stream is what is given otherwise. */
export function wantsJson(c: Context<AppEnv>): boolean {
  const accept = c.req.header('accept') ?? '';
  return /\bapplication\/json\b/i.test(accept) && !/\btext\/event-stream\b/i.test(accept);
}
