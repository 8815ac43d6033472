import { type EventPlace, eventIdOf, finalEventKinds, parseEventId, type TaskEvent } from '../contract/event.js';
import { ProblemError } from '../contract/problems.js';
import type { EventListView, EventView } from '../contract/schemas/event.js';
import { isFinal } from '../contract/status.js';
import { type EventFilter, readEvents, readLastOutputs } from '../db/events.js';
import { readTaskStatus } from '../db/tasks.js';
import { type Caller, ownerOf, streamHolderOf } from './caller.js';
import type { ServiceDeps } from './deps.js';
import type { EventBatch, EventFeed } from './event-feed.js';
import { taskIdOf, taskNotFound } from './task-id.js';

/** A stream of events that counts against its key or its user until it is released, whether it was read or not. */
export interface EventStream {
  /** `null` is a sign of life when nothing happened for a while. Ends when the signal aborts, and at the end of the task it is about. */
  read(signal: AbortSignal): AsyncGenerator<EventView | null>;
  release(): void;
}

export interface EventUseCases {
  /**
   * The events of one of the caller's tasks, from the first one or from after `lastEventId`, and on until the task has ended.
   * @returns null when the task has ended and there is nothing after `lastEventId`
   * @throws {ProblemError} task_not_found, invalid_request for an id that is none, too_many_streams
   */
  streamTaskEvents(caller: Caller, idText: string, lastEventId: string | null): Promise<EventStream | null>;
  /** What happens to the caller's tasks from now on, or from after `lastEventId`. @throws {ProblemError} invalid_request, too_many_streams */
  streamEvents(
    caller: Caller,
    filter: { readonly taskIds: readonly string[]; readonly kinds: readonly string[] },
    lastEventId: string | null,
  ): Promise<EventStream>;
  /** One page of stored events, oldest first. `taskId` null: of all the caller's tasks. @throws {ProblemError} task_not_found, invalid_request */
  listEvents(
    caller: Caller,
    request: {
      readonly taskId: string | null;
      readonly taskIds: readonly string[];
      readonly kinds: readonly string[];
      readonly after: string | null;
      readonly limit: number;
    },
  ): Promise<EventListView>;
  /** The end of what each of the caller's own running tasks has given last, by id; ids of anything else are passed over. */
  lastOutputs(caller: Caller, taskIds: readonly string[]): Promise<ReadonlyMap<string, string>>;
}

/** A proxy between may close what is silent for longer. */
const signOfLifeMs = 15_000;
/** Characters of the end of an output. */
const outputEndChars = 160;
const beginning: EventPlace = { txid: -1n, id: 0n };

export function eventUseCases({ sql }: ServiceDeps, feed: EventFeed): EventUseCases {
  async function statusOf(caller: Caller, taskId: string) {
    const status = await readTaskStatus(sql, taskId, ownerOf(caller));
    if (status === null) throw taskNotFound();
    return status;
  }

  /** Filters name tasks as callers write ids; one that is none matches nothing. */
  const filterOf = (caller: Caller, taskIds: readonly string[], kinds: readonly string[]): EventFilter => ({
    owner: ownerOf(caller),
    taskIds: taskIds.map(taskIdOf),
    kinds,
  });

  function stream(caller: Caller, filter: EventFilter, from: EventPlace, ended: () => Promise<boolean>): EventStream {
    const release = feed.open(streamHolderOf(caller));
    return { release, read };

    async function* read(signal: AbortSignal): AsyncGenerator<EventView | null> {
      let place = from;
      // Whether there may be an end: at the beginning, after an event that tells of one, and when nothing was told for a while.
      let ask = true;
      while (!signal.aborted && !feed.closed) {
        // The table is read after the status: what ended a task has written its event in the same transaction.
        const over: boolean = ask && (await ended());
        const batch: EventBatch = over ? await feed.read(filter, place) : await feed.next(filter, place, { waitMs: signOfLifeMs, signal });
        if (over && batch.events.length === 0 && !batch.hidden) return;
        place = batch.after;
        for (const event of batch.events) yield viewOf(event);
        if (batch.events.length === 0 && !over) yield null;
        // With an end in sight the table is read to its last event; where one is hidden still, a notification tells of it.
        ask = over ? batch.events.length > 0 : batch.events.length === 0 || batch.events.some(({ kind }) => finalEventKinds.includes(kind));
      }
    }
  }

  return {
    async streamTaskEvents(caller, idText, lastEventId) {
      const taskId = taskIdOf(idText);
      const from = placeOf(lastEventId, 'header.last-event-id') ?? beginning;
      const status = await statusOf(caller, taskId);
      const filter = filterOf(caller, [taskId], []);
      if (lastEventId !== null && isFinal(status)) {
        const { events, hidden } = await readEvents(sql, filter, from, 1);
        if (events.length === 0 && !hidden) return null;
      }
      return stream(caller, filter, from, async () => isFinal(await statusOf(caller, taskId)));
    },
    async streamEvents(caller, { taskIds, kinds }, lastEventId) {
      const from = placeOf(lastEventId, 'header.last-event-id') ?? (await feed.now());
      return stream(caller, filterOf(caller, taskIds, kinds), from, async () => false);
    },
    lastOutputs: (caller, taskIds) => readLastOutputs(sql, ownerOf(caller), taskIds, outputEndChars),
    async listEvents(caller, { taskId, taskIds, kinds, after, limit }) {
      const from = placeOf(after, 'query.after') ?? beginning;
      if (taskId !== null) await statusOf(caller, taskIdOf(taskId));
      const { events } = await readEvents(sql, filterOf(caller, taskId === null ? taskIds : [taskId], kinds), from, limit);
      return { items: events.map(viewOf), next: eventIdOf(events.at(-1)?.place ?? (from === beginning ? { txid: 0n, id: 0n } : from)) };
    },
  };
}

function placeOf(text: string | null, path: string): EventPlace | null {
  if (text === null) return null;
  const place = parseEventId(text);
  if (place !== undefined) return place;
  const fault = { path, expected: 'the id of an event', got: `text of ${text.length} characters`, message: 'This is not the id of an event.' };
  throw new ProblemError('invalid_request', fault.message, { errors: [fault] });
}

function viewOf({ place, taskId, at, kind, data }: TaskEvent): EventView {
  return { id: eventIdOf(place), task_id: taskId, at: at.toISOString(), kind, data };
}
