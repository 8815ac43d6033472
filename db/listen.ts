import type { Logger } from 'pino';
import postgres from 'postgres';
import { answered, type Sql } from './connect.js';

/** `line`: something to decide; `outbox`: something to deliver; `residency`: payload is the host; `cancel`: payload is the task whose running steps stop. */
export type Channel = 'line' | 'outbox' | 'residency' | 'cancel';

export interface ListenOptions {
  /** Called when notifications may have been missed, and once at the start: read again whatever they would have told of. */
  readonly onReconnect: () => void;
  readonly log: Logger;
}

export interface Listener {
  close(): Promise<void>;
}

/** How often the connection is asked whether it is alive; a silent one is replaced. */
const checkEveryMs = 5_000;
const checkDeadlineMs = 3_000;
const reopenPauseMs = 500;

/**
 * Listens on a connection of its own until closed. When it breaks or falls silent a new one is opened, without end.
 * Returns at once; the first connection may come later, and `onReconnect` tells of it.
 */
export function listen(url: string, channels: readonly Channel[], onNotify: (channel: Channel, payload: string) => void, options: ListenOptions): Listener {
  let closed = false;
  let current: Sql | undefined;
  let endWait: () => void = () => {};

  const ended = (async () => {
    while (!closed) {
      const broken = new AbortController();
      const sql = postgres(url, {
        max: 1,
        connect_timeout: 5,
        idle_timeout: 0,
        max_lifetime: null,
        fetch_types: false,
        onnotice: () => {},
        onclose: () => broken.abort(),
        connection: { application_name: 'orchestra-listen' },
        // Not in the published types, but how postgres.js itself listens; its own `listen` gives up when the first reconnect fails.
        ...{ onnotify: (channel: string, payload: string) => onNotify(channel as Channel, payload) },
      });
      current = sql;
      try {
        for (const channel of channels) await answered(sql`listen ${sql(channel)}`, checkDeadlineMs);
        options.onReconnect();
        while (!closed && !broken.signal.aborted) {
          await wait(checkEveryMs, broken.signal);
          if (!closed && !broken.signal.aborted) await answered(sql`select 1`, checkDeadlineMs);
        }
      } catch (error) {
        if (!closed) options.log.warn({ err: error }, 'the connection for notifications broke; opening another');
      }
      await sql.end({ timeout: 0 }).catch(() => undefined);
      if (!closed) await wait(reopenPauseMs);
    }
  })();

  return {
    async close() {
      closed = true;
      endWait();
      await current?.end({ timeout: 0 });
      await ended;
    },
  };

  async function wait(timeMs: number, signal?: AbortSignal): Promise<void> {
    if (closed || signal?.aborted) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, timeMs);
      endWait = () => {
        clearTimeout(timer);
        resolve();
      };
      signal?.addEventListener('abort', endWait, { once: true });
    });
  }
}

/** Tells the listeners of a channel; at most some hundred bytes. */
export async function notify(sql: Sql, channel: Channel, payload = ''): Promise<void> {
  await answered(sql`select pg_notify(${channel}, ${payload})`);
}
