import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import postgres from 'postgres';
import { answered, type Sql } from './connect.js';

/** `line`: something to decide; `outbox`: something to deliver; `residency`: payload is the host; `cancel`: payload is the task whose running steps stop; `events`: events were written. */
export type Channel = 'line' | 'outbox' | 'residency' | 'cancel' | 'events';

export interface ListenOptions {
  /** Called when notifications may have been missed, and once at the start: read again whatever they would have told of. */
  readonly onReconnect: () => void;
  /** how often the connection is asked whether it is alive; a silent one is replaced. Default 5,000 */
  readonly checkEveryMs?: number;
  readonly log: Logger;
}

export interface Listener {
  close(): Promise<void>;
}

const defaultCheckEveryMs = 5_000;
const checkDeadlineMs = 3_000;
const reopenPauseMs = 500;

/**
 * Listens on a connection of its own until closed. When it breaks or falls silent a new one is opened, without end.
 * Returns at once; the first connection may come later, and `onReconnect` tells of it.
 */
export function listen(url: string, channels: readonly Channel[], onNotify: (channel: Channel, payload: string) => void, options: ListenOptions): Listener {
  const { onReconnect, checkEveryMs = defaultCheckEveryMs, log } = options;
  const closing = new AbortController();
  let broken = closing;
  let current: Sql | undefined;

  const ended = (async () => {
    while (!closing.signal.aborted) {
      const thisBroken = new AbortController();
      broken = thisBroken;
      const sql = postgres(url, {
        max: 1,
        connect_timeout: 5,
        idle_timeout: 0,
        max_lifetime: null,
        fetch_types: false,
        onnotice: () => {},
        onclose: () => thisBroken.abort(),
        connection: { application_name: 'orchestra-listen' },
        // Not in the published types, but how postgres.js itself listens; its own `listen` gives up when the first reconnect fails.
        ...{ onnotify: (channel: string, payload: string) => onNotify(channel as Channel, payload) },
      });
      current = sql;
      try {
        for (const channel of channels) await answered(sql`listen ${sql(channel)}`, checkDeadlineMs);
        onReconnect();
        while (!thisBroken.signal.aborted) {
          await pause(checkEveryMs, thisBroken.signal);
          if (!thisBroken.signal.aborted) await answered(sql`select 1`, checkDeadlineMs);
        }
      } catch (error) {
        if (!closing.signal.aborted) log.warn({ err: error }, 'the connection for notifications broke; opening another');
      }
      await sql.end({ timeout: 0 }).catch(() => undefined);
      if (!closing.signal.aborted) await pause(reopenPauseMs, closing.signal);
    }
  })();

  return {
    async close() {
      closing.abort();
      broken.abort();
      await current?.end({ timeout: 0 });
      await ended;
    },
  };
}

/** Ends early, without an error, when the signal aborts; leaves no listener on it. */
async function pause(timeMs: number, signal: AbortSignal): Promise<void> {
  await delay(timeMs, undefined, { signal }).catch(() => undefined);
}

/** Tells the listeners of a channel; at most some hundred bytes. */
export async function notify(sql: Sql, channel: Channel, payload = ''): Promise<void> {
  await answered(sql`select pg_notify(${channel}, ${payload})`);
}
