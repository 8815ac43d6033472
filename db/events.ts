import type { EventPlace, TaskEvent } from '../contract/event.js';
import type { JsonObject } from '../contract/json.js';
import { answered, type Sql } from './connect.js';

export interface EventFilter {
  /** null: of everybody's tasks */
  readonly owner: string | null;
  /** empty: of every task */
  readonly taskIds: readonly string[];
  /** empty: of every kind */
  readonly kinds: readonly string[];
}

export interface EventPage {
  readonly events: readonly TaskEvent[];
  /** the page is full: there may be more after its last event */
  readonly more: boolean;
  /** every event of a transaction below this one was visible when the page was read */
  readonly horizon: bigint;
  /** newer events are there that an older open transaction still hides */
  readonly hidden: boolean;
}

interface Row {
  readonly txid: string;
  readonly id: string;
  readonly taskId: string;
  readonly userId: string;
  /** ISO 8601 */
  readonly at: string;
  readonly kind: string;
  readonly data: JsonObject;
}

/** Bytes of data from which on a page ends. */
const pageBytesMax = 1024 ** 2;

/** Events after a place, in their order, as far as they can be told without passing one over. Reads. */
export async function readEvents(sql: Sql, { owner, taskIds, kinds }: EventFilter, after: EventPlace, limit: number): Promise<EventPage> {
  const [row] = await answered(sql<{ page: { horizon: string; hidden: boolean; fetched: number; rows: Row[] } }[]>`
    select task_events_page(${after.txid.toString()}::text::bigint, ${after.id.toString()}::text::bigint, ${owner}, ${taskIds.length > 0 ? (taskIds as string[]) : null}::uuid[],
      ${kinds.length > 0 ? (kinds as string[]) : null}::text[], ${limit}, ${pageBytesMax}) as page`);
  if (row === undefined) throw new Error('PostgreSQL returned no row');
  const { page } = row;
  const events = page.rows.map(eventOf);
  return { events, more: page.fetched > events.length || page.fetched === limit, horizon: BigInt(page.horizon), hidden: page.hidden };
}

/** Gives events that a restore brought from another cluster a place in this one's order. May be repeated. @returns how many */
export async function adoptEvents(sql: Sql): Promise<number> {
  const [row] = await answered(sql<{ adopted: string }[]>`select task_events_adopt() as adopted`);
  return Number(row?.adopted ?? 0);
}

/** The last piece of output of each task of the owner, at most as many characters of its end; tasks that have given none are left out. Reads. */
export async function readLastOutputs(sql: Sql, owner: string | null, taskIds: readonly string[], charsMax: number): Promise<Map<string, string>> {
  const rows = await answered(sql<{ id: string; text: string }[]>`
    select a.id, right(e.data ->> 'text', ${charsMax}) as text from tasks a cross join lateral (
      select data from task_events where task_id = a.id and kind = 'output' order by txid desc, id desc limit 1) e
    where a.id = any(${taskIds as string[]}::uuid[]) and (${owner}::text is null or a.user_id = ${owner})`);
  return new Map(rows.map(({ id, text }) => [id, text]));
}

function eventOf({ txid, id, taskId, userId, at, kind, data }: Row): TaskEvent {
  return { place: { txid: BigInt(txid), id: BigInt(id) }, taskId, userId, at: new Date(at), kind, data };
}
