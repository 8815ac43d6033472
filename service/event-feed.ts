import type { Logger } from 'pino';
import { type EventPlace, isAfter, type TaskEvent } from '../contract/event.js';
import { ProblemError } from '../contract/problems.js';
import type { Sql } from '../db/connect.js';
import { type EventFilter, readEvents } from '../db/events.js';
import { type Loop, startLoop } from '../loop.js';

export interface EventFeedConfig {
  /** streams of one API key or of one user who has signed in, and of all together, that one process serves */
  readonly streamsPerKey: number;
  readonly streamsMax: number;
}

/** Calls back when events were written, and when that may have been missed. */
export type ListenEvents = (onNotify: () => void) => Promise<{ stop(): Promise<void> }>;

export interface EventBatch {
  readonly events: readonly TaskEvent[];
  /** where to go on; nothing that fits lies between the last event and it */
  readonly after: EventPlace;
  /** newer events are there that an older open transaction still hides */
  readonly hidden: boolean;
}

/**
 * The events of all tasks as one process hands them out. Whoever streams asks for what comes after his place, when he is ready for more, so that
 * nobody has a queue of his own and a slow reader costs no memory: recent events are kept once for all, older ones are read from the table.
 */
export interface EventFeed {
  /** Takes a stream of a key or a user. @returns what gives it back. @throws {ProblemError} too_many_streams */
  open(holder: string): () => void;
  /** The place behind everything that can be told now. */
  now(): Promise<EventPlace>;
  /** What the table has after a place now. */
  read(filter: EventFilter, after: EventPlace): Promise<EventBatch>;
  /** The next events after a place; waits for some, at most `waitMs`. Empty when none came, when the signal aborted, and when the feed was closed. */
  next(filter: EventFilter, after: EventPlace, options: { readonly waitMs: number; readonly signal: AbortSignal }): Promise<EventBatch>;
  readonly closed: boolean;
  readonly streams: number;
  /** Ends every wait. */
  close(): Promise<void>;
}

const pageSize = 500;
/** What is kept of the latest events; whoever is further behind reads the table. */
const recentMax = 5_000;
/** The longest time between two looks while somebody streams; a notification comes sooner. */
const lookEveryMs = 1_000;
/** How soon to look again for what an open transaction hides. */
const hiddenAgainMs = 20;

const lastId = 2n ** 63n - 1n;

export function createEventFeed(deps: {
  readonly sql: Sql;
  readonly config: EventFeedConfig;
  readonly listen: ListenEvents | null;
  readonly log: Logger;
}): EventFeed {
  const { sql, config, log } = deps;
  const streams = new Map<string, number>();
  let open = 0;
  let closed = false;
  let loop: Loop | null = null;
  let listening: Promise<{ stop(): Promise<void> }> | null = null;
  const waiting = new Set<() => void>();
  /** all events after `from`, up to `to` */
  let recent: { events: TaskEvent[]; from: EventPlace; to: EventPlace; hidden: boolean } | null = null;

  const wakeAll = () => {
    for (const wake of waiting) wake();
  };

  async function look(): Promise<{ againInMs: number } | undefined> {
    if (open === 0 || closed) {
      recent = null;
      return undefined;
    }
    const ring = (recent ??= await begin());
    for (let more = true; more; ) {
      const page = await readEvents(sql, { owner: null, taskIds: [], kinds: [] }, ring.to, pageSize);
      ring.events.push(...page.events);
      ring.to = page.more ? (page.events.at(-1)?.place ?? ring.to) : placeBelow(page.horizon, ring.to);
      ring.hidden = page.hidden;
      more = page.more && page.events.length > 0;
      const surplus = ring.events.length - recentMax;
      if (surplus > 0) ring.from = ring.events.splice(0, surplus).at(-1)?.place ?? ring.from;
    }
    wakeAll();
    return ring.hidden ? { againInMs: hiddenAgainMs } : undefined;
  }

  async function begin() {
    const place = await now();
    return { events: [], from: place, to: place, hidden: false };
  }

  async function now(): Promise<EventPlace> {
    const { horizon } = await readEvents(sql, { owner: null, taskIds: [], kinds: [] }, { txid: lastId, id: lastId }, 1);
    return { txid: horizon - 1n, id: lastId };
  }

  async function read(filter: EventFilter, after: EventPlace): Promise<EventBatch> {
    const page = await readEvents(sql, filter, after, pageSize);
    const end = page.more ? (page.events.at(-1)?.place ?? after) : placeBelow(page.horizon, after);
    return { events: page.events, after: end, hidden: page.hidden };
  }

  function start(): void {
    loop ??= startLoop({ name: 'events', everyMs: lookEveryMs, run: look, log });
    listening ??= deps.listen?.(() => open > 0 && loop?.wake()) ?? null;
    loop.wake();
  }

  return {
    get closed() {
      return closed;
    },
    get streams() {
      return open;
    },

    open(holder) {
      const own = streams.get(holder) ?? 0;
      if (open >= config.streamsMax) throw new ProblemError('too_many_streams', `This server has ${open} streams open, which is all it serves.`);
      if (own >= config.streamsPerKey) throw new ProblemError('too_many_streams', `You have ${own} streams open; close one first.`);
      streams.set(holder, own + 1);
      open += 1;
      start();
      let given = false;
      return () => {
        if (given) return;
        given = true;
        open -= 1;
        const left = (streams.get(holder) ?? 1) - 1;
        if (left > 0) streams.set(holder, left);
        else streams.delete(holder);
      };
    },

    now,

    read,

    async next(filter, after, { waitMs, signal }) {
      const deadlineMs = performance.now() + waitMs;
      for (let place = after; ; ) {
        const ring = recent;
        if (ring === null || isAfter(ring.from, place)) {
          const batch = await read(filter, place);
          if (batch.events.length > 0) return batch;
          place = batch.after;
        } else {
          const events: TaskEvent[] = [];
          for (const event of ring.events) {
            if (events.length === pageSize) break;
            if (isAfter(event.place, place) && fits(event, filter)) events.push(event);
          }
          const to = isAfter(place, ring.to) ? place : ring.to;
          const end = events.length === pageSize ? (events.at(-1)?.place ?? to) : to;
          if (events.length > 0) return { events, after: end, hidden: ring.hidden };
          place = end;
        }
        const leftMs = deadlineMs - performance.now();
        if (leftMs <= 0 || signal.aborted || closed) return { events: [], after: place, hidden: false };
        await wokenWithin(leftMs, signal);
      }
    },

    async close() {
      closed = true;
      wakeAll();
      await (await listening)?.stop();
      await loop?.stop();
    },
  };

  async function wokenWithin(timeMs: number, signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      const done = () => {
        waiting.delete(done);
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, timeMs);
      waiting.add(done);
      signal.addEventListener('abort', done, { once: true });
    });
  }
}

/** The place right below a horizon; a place never goes back. */
function placeBelow(horizon: bigint, atLeast: EventPlace): EventPlace {
  const place = { txid: horizon - 1n, id: lastId };
  return isAfter(place, atLeast) ? place : atLeast;
}

function fits({ userId, taskId, kind }: TaskEvent, { owner, taskIds, kinds }: EventFilter): boolean {
  return (owner === null || owner === userId) && (taskIds.length === 0 || taskIds.includes(taskId)) && (kinds.length === 0 || kinds.includes(kind));
}
