import type { ForecastEntry, StoredForecast } from '../contract/forecast.js';
import type { ResidencyKey } from '../contract/queues.js';
import type { StatusDetail } from '../contract/status.js';
import type { QueueRow } from '../db/queue.js';
import { allAtOnce, type Slices } from '../scheduling/slices.js';
import { compareStanding, defaultMaxWaitsMs, type MaxWaits, type Standing, standingOf, type Waiting } from '../scheduling/waiting-order.js';
import { type EntriesByTask, entriesByTask, type PlacedEntry } from './forecasts.js';

export type WaitingRow = Omit<QueueRow, 'pos'>;

export interface Placed {
  readonly row: WaitingRow;
  /** order of arrival; smaller is earlier */
  readonly place: number;
  /** what the forecast says of it; null: it has not seen it, or not where it stands now */
  readonly entry: ForecastEntry | null;
}

/** Rows in a slice of work. */
const sliceRows = 500;

/** Details of rows that are not granted however free the slots are. */
const stuck: ReadonlySet<StatusDetail> = new Set(['held', 'blocked', 'waiting_dependency', 'cancelling']);

/**
 * The queue in the order in which its steps are predicted to start. What the forecast has not seen yet, or was placed anew since, stands before the first step
 * of its model that it goes before, or else at the end. Without a forecast it is the order of the line.
 * @param rows in the order of arrival
 * @param nowMs of the clock that `enteredAtMs` is of
 */
export function orderQueue(rows: readonly WaitingRow[], forecast: StoredForecast | null, nowMs: number, maxWaitsMs: MaxWaits = defaultMaxWaitsMs): Placed[] {
  return allAtOnce(orderQueueInSlices(rows, forecast, nowMs, maxWaitsMs));
}

/** As {@link orderQueue}. */
export function* orderQueueInSlices(
  rows: readonly WaitingRow[],
  forecast: StoredForecast | null,
  nowMs: number,
  maxWaitsMs: MaxWaits = defaultMaxWaitsMs,
): Slices<Placed[]> {
  const madeAtMs = forecast?.madeAt.getTime() ?? 0;
  const byTask = entriesByTask(forecast);
  yield;
  // By place in the forecast: what is in an order already is not sorted.
  const places: (Placed | undefined)[] = Array.from({ length: forecast?.entries.length ?? 0 });
  const unseen: Placed[] = [];
  for (const [place, row] of rows.entries()) {
    if (place % sliceRows === sliceRows - 1) yield;
    const found = row.step === null || (row.placedAtMs ?? 0) > madeAtMs ? undefined : find(byTask, row.taskId, row.step);
    if (found === undefined || found.entry.why === null || places[found.at] !== undefined) unseen.push({ row, place, entry: null });
    else places[found.at] = { row, place, entry: found.entry };
  }
  const seen = places.filter((placed) => placed !== undefined);
  if (unseen.length === 0) return seen;
  yield;
  return yield* mergeUnseen(seen, inLineOrder(unseen, nowMs, maxWaitsMs), (placed) => inLine(placed, nowMs, maxWaitsMs));
}

function find(byTask: EntriesByTask, taskId: string, step: string): PlacedEntry | undefined {
  return byTask.get(taskId)?.find(({ entry }) => entry.step === step);
}

/** Looks up what a forecast says of a step. */
export function entriesOf(forecast: StoredForecast | null): (taskId: string, step: string) => ForecastEntry | undefined {
  const byTask = entriesByTask(forecast);
  return (taskId, step) => find(byTask, taskId, step)?.entry;
}

/**
 * Rows in the order of arrival, with those of some tasks as they are now.
 * @param rows in the order of arrival
 * @param placed in the order of arrival
 */
export function withPlaced<Row extends { readonly taskId: string; readonly pos: string }>(rows: readonly Row[], placed: readonly Row[]): Row[] {
  if (placed.length === 0) return [...rows];
  const anew = new Set(placed.map(({ taskId }) => taskId));
  const others = rows.filter(({ taskId }) => !anew.has(taskId));
  const merged: Row[] = [];
  let at = 0;
  for (const row of placed) {
    const before = firstAfter(others, row.pos, at);
    for (; at < before; at += 1) merged.push(others[at] as Row);
    merged.push(row);
  }
  for (; at < others.length; at += 1) merged.push(others[at] as Row);
  return merged;
}

/** The index of the first of the rows, from `from` on, that stands behind a place; rows with the same place stand before it. */
function firstAfter(rows: readonly { readonly pos: string }[], pos: string, from: number): number {
  let [low, high] = [from, rows.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (comparePos(rows[middle]?.pos ?? '0', pos) <= 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Compares two numbers that are not negative and may have more digits than a number has here. */
export function comparePos(a: string, b: string): number {
  const [one, other] = [a.split('.'), b.split('.')];
  const whole = Number(one[0]) - Number(other[0]);
  if (whole !== 0) return whole;
  const [more, less] = [(one[1] ?? '').replace(/0+$/, ''), (other[1] ?? '').replace(/0+$/, '')];
  return more === less ? 0 : more < less ? -1 : 1;
}

interface InLine {
  readonly placed: Placed;
  readonly waiting: Waiting;
  readonly standing: Standing;
  readonly ready: boolean;
}

function inLine(placed: Placed, nowMs: number, maxWaitsMs: MaxWaits): InLine {
  const { row, place } = placed;
  const waiting = { level: row.level, exact: row.exact, place, waitedMs: Math.max(0, nowMs - row.enteredAtMs) };
  return { placed, waiting, standing: standingOf(waiting, maxWaitsMs), ready: !stuck.has(row.detail) };
}

/** What can be granted first, then what cannot. */
function inLineOrder(unseen: readonly Placed[], nowMs: number, maxWaitsMs: MaxWaits): InLine[] {
  return unseen.map((placed) => inLine(placed, nowMs, maxWaitsMs)).sort((a, b) => (a.ready === b.ready ? before(a, b) : a.ready ? -1 : 1));
}

const before = (a: InLine, b: InLine) => compareStanding(a.standing, a.waiting, b.standing, b.waiting);

function* mergeUnseen(seen: readonly Placed[], unseen: readonly InLine[], look: (placed: Placed) => InLine): Slices<Placed[]> {
  const goesBefore = ({ ready, placed: { row } }: InLine) => ready && row.step !== null;
  // Only where something is to be inserted it matters how the others of the model stand.
  const ofKey = new Map(unseen.filter(goesBefore).map(({ placed: { row } }) => [row.key, [] as { readonly line: InLine; readonly at: number }[]]));
  for (const [at, placed] of seen.entries()) {
    if (at % sliceRows === sliceRows - 1) yield;
    const list = ofKey.get(placed.row.key);
    if (list === undefined) continue;
    const line = look(placed);
    if (line.ready) list.push({ line, at });
  }
  const inserted = new Map<number, Placed[]>();
  const last: Placed[] = [];
  // Those that come later in the line are not inserted earlier, so that each list is gone through once.
  const reached = new Map<ResidencyKey | null, number>();
  for (const [index, line] of unseen.entries()) {
    if (index % sliceRows === sliceRows - 1) yield;
    const { placed } = line;
    const list = goesBefore(line) ? (ofKey.get(placed.row.key) ?? []) : [];
    let next = reached.get(placed.row.key) ?? 0;
    for (let other = list[next]; other !== undefined && before(other.line, line) < 0; other = list[next]) next += 1;
    if (list.length > 0) reached.set(placed.row.key, next);
    const at = list[next]?.at;
    if (at === undefined) last.push(placed);
    else inserted.set(at, [...(inserted.get(at) ?? []), placed]);
  }
  const merged: Placed[] = [];
  for (const [at, placed] of seen.entries()) {
    if (at % sliceRows === sliceRows - 1) yield;
    for (const each of inserted.get(at) ?? []) merged.push(each);
    merged.push(placed);
  }
  return [...merged, ...last];
}
