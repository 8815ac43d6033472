import { createParser, type EventSourceMessage } from 'eventsource-parser';
import { finalEventKinds } from '../contract/event.js';
import type { EventView } from '../contract/schemas/event.js';
import { ApiProblem, ApiUnreachable } from './problem.js';
import { type Call, pause, type Transport, unreachableOr } from './transport.js';

export interface StreamOptions {
  /** id of the last event that was seen: the stream goes on behind it */
  readonly after?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** how long the server may be away before the stream fails; default 60,000 */
  readonly awayMs?: number | undefined;
}

/** The server says something at least every 15 s; after so long without a word the connection is dead. */
const silentMs = 45_000;
const reconnectMs = 2_000;

/**
 * Events as they come, with a connection that is renewed from the last one seen whenever it breaks.
 * @param endsWithTask the stream of one task: it is over when the server ends it after an event that ends the task
 * @throws {ApiProblem} a refusal, {ApiUnreachable} when the server is away for longer than `awayMs`, the signal's reason when it fires
 */
export async function* followEvents(
  transport: Transport,
  call: Omit<Call, 'method'>,
  endsWithTask: boolean,
  options: StreamOptions,
): AsyncGenerator<EventView> {
  const { signal, awayMs = 60_000 } = options;
  let after = options.after;
  let last: EventView | undefined;
  let pauseMs = reconnectMs;
  let heardAtMs = performance.now();
  for (;;) {
    try {
      for await (const message of connection(transport, { ...call, method: 'GET', headers: after === undefined ? {} : { 'last-event-id': after } }, signal)) {
        heardAtMs = performance.now();
        if (message === null) continue;
        if (typeof message === 'number') {
          pauseMs = message;
          continue;
        }
        last = JSON.parse(message.data) as EventView;
        after = last.id;
        yield last;
      }
      heardAtMs = performance.now();
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      if (error instanceof StreamOver) return;
      const passing = error instanceof ApiUnreachable || (error instanceof ApiProblem && [429, 502, 503, 504].includes(error.status));
      if (!passing || performance.now() - heardAtMs > awayMs) throw error;
      if (error instanceof ApiProblem && error.retryAfterSeconds !== null) pauseMs = Math.max(pauseMs, error.retryAfterSeconds * 1_000);
    }
    if (endsWithTask && last !== undefined && finalEventKinds.includes(last.kind)) return;
    await pause(pauseMs, signal);
  }
}

/** The server says that nothing more will come (204). */
class StreamOver extends Error {}

/** One connection: messages, a number for `retry`, and null for a comment. */
async function* connection(transport: Transport, call: Call, signal: AbortSignal | undefined): AsyncGenerator<EventSourceMessage | number | null> {
  const own = new AbortController();
  const both = signal === undefined ? own.signal : AbortSignal.any([signal, own.signal]);
  let silence = setTimeout(() => own.abort(), silentMs);
  try {
    const response = await transport.open({ ...call, headers: { accept: 'text/event-stream', ...call.headers }, signal: both });
    if (response.status === 204 || response.body === null) throw new StreamOver();
    let ready: (EventSourceMessage | number | null)[] = [];
    const parser = createParser({
      onEvent: (message) => void ready.push(message),
      onRetry: (ms) => void ready.push(ms),
      onComment: () => void ready.push(null),
    });
    const decoder = new TextDecoder();
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      clearTimeout(silence);
      parser.feed(decoder.decode(chunk, { stream: true }));
      const messages = ready;
      ready = [];
      yield* messages;
      silence = setTimeout(() => own.abort(), silentMs);
    }
  } catch (error) {
    if (error instanceof StreamOver || signal?.aborted) throw error;
    throw unreachableOr(error, transport.baseUrl, own.signal.aborted ? 'has fallen silent' : null);
  } finally {
    clearTimeout(silence);
    own.abort();
  }
}
