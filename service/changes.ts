import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { ReadForecast } from './forecasts.js';

/** What may change: tasks with their steps, the order and the forecast of the queue, models and hosts. */
export const changeTopics = ['tasks', 'queue', 'models'] as const;
export type ChangeTopic = (typeof changeTopics)[number];

/** Which notifications of the database tell of which topics. */
const told = { events: ['tasks', 'queue'], line: ['queue'], residency: ['models', 'queue'] } as const satisfies Record<string, readonly ChangeTopic[]>;
type ToldBy = keyof typeof told;

/** Calls back for each notification of a channel, and when one may have been missed. */
export type ListenChanges = (channel: ToldBy, onNotify: () => void) => Promise<{ stop(): Promise<void> }>;

/** How often each topic has changed as this process has seen it; only ever grows. */
export type ChangeCounts = Readonly<Record<ChangeTopic, number>>;

/** Tells that something has changed, never what: whoever is told reads it again. */
export interface ChangeFeed {
  readonly counts: ChangeCounts;
  readonly closed: boolean;
  /** Waits until one of the topics has changed since; at most `waitMs`, and until the signal aborts. @returns the counts then */
  next(topics: readonly ChangeTopic[], since: ChangeCounts, options: { readonly waitMs: number; readonly signal: AbortSignal }): Promise<ChangeCounts>;
  /** Ends every wait. */
  close(): Promise<void>;
}

/** Forecasts and what hosts report of their models are not notified of, so they are looked at while somebody waits for them. */
const lookEveryMs = 1_000;
const modelsEveryMs = 2_000;

export function createChangeFeed(deps: { readonly listen: ListenChanges | null; readonly forecastNow: ReadForecast; readonly log: Logger }): ChangeFeed {
  let counts: ChangeCounts = { tasks: 0, queue: 0, models: 0 };
  const waiting = new Set<() => void>();
  const closing = new AbortController();
  let watching: Promise<void> | undefined;
  const listeners = Object.keys(told).map(async (channel) => deps.listen?.(channel as ToldBy, () => changed(told[channel as ToldBy])));
  for (const listener of listeners) listener.catch((error: unknown) => deps.log.warn({ err: error }, 'changes are looked for, not listened to'));

  function changed(topics: readonly ChangeTopic[]): void {
    counts = { ...counts, ...Object.fromEntries(topics.map((topic) => [topic, counts[topic] + 1])) };
    for (const wake of waiting) wake();
  }

  /** Looks while somebody waits, and once more afterwards. */
  async function watch(): Promise<void> {
    let version: number | undefined;
    let modelsAtMs = 0;
    while (waiting.size > 0 && !closing.signal.aborted) {
      const seen = await deps.forecastNow().then(
        (forecast) => forecast?.version,
        (error: unknown) => {
          deps.log.debug({ err: error }, 'no look at the forecast');
          return undefined;
        },
      );
      const topics: ChangeTopic[] = deps.listen === null ? ['tasks'] : [];
      if (deps.listen === null || seen !== version) topics.push('queue');
      version = seen;
      if (performance.now() - modelsAtMs >= modelsEveryMs) {
        modelsAtMs = performance.now();
        topics.push('models');
      }
      if (topics.length > 0) changed(topics);
      await delay(lookEveryMs, undefined, { signal: closing.signal }).catch(() => {});
    }
    watching = undefined;
  }

  return {
    get counts() {
      return counts;
    },
    get closed() {
      return closing.signal.aborted;
    },
    async next(topics, since, { waitMs, signal }) {
      const differs = () => topics.some((topic) => counts[topic] !== since[topic]);
      if (differs() || signal.aborted || closing.signal.aborted) return counts;
      let wake = () => {};
      const woken = new Promise<void>((resolve) => {
        wake = () => {
          if (differs()) resolve();
        };
      });
      waiting.add(wake);
      watching ??= watch();
      const done = new AbortController();
      try {
        const ended = AbortSignal.any([signal, closing.signal, done.signal]);
        await Promise.race([woken, delay(waitMs, undefined, { signal: ended }).catch(() => {})]);
        return counts;
      } finally {
        done.abort();
        waiting.delete(wake);
      }
    },
    async close() {
      closing.abort();
      for (const listener of await Promise.allSettled(listeners)) if (listener.status === 'fulfilled') await listener.value?.stop();
    },
  };
}
