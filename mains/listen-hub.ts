import type { Logger } from 'pino';
import { type Channel, listen } from '../db/listen.js';

/** One connection for the notifications of a process, shared by all who listen. */
export interface ListenHub {
  /** Calls back for each NOTIFY of a channel, and with '' when the connection was made anew, since calls may have been missed. */
  listen(channel: Channel, onNotify: (payload: string) => void): Promise<{ stop(): Promise<void> }>;
  close(): Promise<void>;
}

export function createListenHub(url: string, channels: readonly Channel[], log: Logger): ListenHub {
  const listeners = new Map<Channel, Set<(payload: string) => void>>(channels.map((channel) => [channel, new Set()]));
  const connection = listen(url, channels, (channel, payload) => tell(channel, payload), {
    log,
    onReconnect: () => {
      for (const channel of channels) tell(channel, '');
    },
  });

  function tell(channel: Channel, payload: string): void {
    for (const onNotify of listeners.get(channel) ?? []) {
      try {
        onNotify(payload);
      } catch (error) {
        log.error({ err: error, channel }, 'a listener failed');
      }
    }
  }

  return {
    async listen(channel, onNotify) {
      const of = listeners.get(channel);
      if (of === undefined) throw new Error(`this process does not listen on ${channel}`);
      of.add(onNotify);
      return {
        async stop() {
          of.delete(onNotify);
        },
      };
    },
    close: () => connection.close(),
  };
}
