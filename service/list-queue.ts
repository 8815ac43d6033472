import { z } from 'zod';
import type { ForecastEntry, StoredForecast } from '../contract/forecast.js';
import type { Pool } from '../contract/plan.js';
import { needOfKey, type ResidencyKey } from '../contract/queues.js';
import type { ModelChangeView, QueueEntryView, QueueView, RunningStepView } from '../contract/schemas/queue.js';
import type { StatusDetail } from '../contract/status.js';
import {
  type ModelChangeRow,
  type PauseRow,
  type QueuedTask,
  type QueueRow,
  type QueueRows,
  readQueuedTasks,
  readQueueNow,
  readQueueRows,
  type RunningRow,
} from '../db/queue.js';
import { inSlices } from '../in-slices.js';
import type { Slices } from '../scheduling/slices.js';
import { type Caller, ownerOf } from './caller.js';
import type { ServiceDeps } from './deps.js';
import { checksum, foreignCursor, openCursor, sealCursor } from './page-cursor.js';
import { orderReason } from './order-reason.js';
import { pauseView } from './pauses.js';
import type { ReadForecast } from './forecasts.js';
import { nameOfModel, type NamesOfModels } from './model-named.js';
import { entriesOf, orderQueueInSlices, type Placed, withPlaced } from './queue-order.js';
import { reasonOf } from './queue-reason.js';

export interface QueueRequest {
  /** ids */
  readonly tasks: readonly string[];
  /** names or aliases; values of one filter are alternatives, an empty one lets everything pass */
  readonly models: readonly string[];
  readonly users: readonly string[];
  readonly pools: readonly Pool[];
  readonly details: readonly StatusDetail[];
  readonly templates: readonly string[];
  /** 1 to 10 */
  readonly levels: readonly number[];
  readonly limit: number;
  readonly cursor: string | null;
}

/** Filters that let everything pass. */
export const unfiltered: Omit<QueueRequest, 'limit' | 'cursor'> = { tasks: [], models: [], users: [], pools: [], details: [], templates: [], levels: [] };

/** The order of everything that waits, as it was a moment ago. */
interface Snapshot extends QueueRows {
  readonly forecast: StoredForecast | null;
  readonly order: readonly Shown[];
  readonly untilMs: number;
}

/** For how many times as long as it took to make an order is kept, so that making it takes a fifth of the time at most, however many ask. */
const keptTimes = 4;
/** A shorter queue is looked at anew each time. */
const keptFrom = 1_000;
/** For how long after that an order is still shown while the next one is made. What has started since is left out, what came since comes with the next one, and what people do to the order is always seen. */
const graceMs = 5_000;

/**
 * One page of the queue. Of other people's tasks a caller sees that they are there: place, model and priority.
 * @throws {ProblemError} invalid_request for a cursor that is not one of this list
 */
export function listQueueUseCase({ sql }: ServiceDeps, deployment: NamesOfModels, forecastNow: ReadForecast) {
  let last: Snapshot | undefined;
  let making: Promise<Snapshot> | undefined;
  let patching: Promise<Snapshot> | undefined;

  async function make(): Promise<Snapshot> {
    const startedMs = performance.now();
    const [forecast, found] = await Promise.all([forecastNow(), readQueueRows(sql)]);
    const order = await inSlices(shownIn(found, forecast));
    const endedMs = performance.now();
    last = { ...found, forecast, order, untilMs: order.length < keptFrom ? 0 : endedMs + keptTimes * (endedMs - startedMs) };
    return last;
  }

  /** A long queue as it was, with what people have placed anew since. */
  async function patchOf(old: Snapshot): Promise<Snapshot> {
    const found = await readQueueRows(sql, { placedAfter: old.changedAt });
    const rows = withPlaced(old.rows, found.rows);
    const order = await inSlices(shownIn({ rows, nowMs: found.nowMs }, old.forecast));
    const patched = { ...old, version: found.version, changedAt: found.changedAt, rows, order };
    if (last === old) last = patched;
    return patched;
  }

  function begin(): Promise<Snapshot> {
    making ??= make().finally(() => {
      making = undefined;
    });
    return making;
  }

  function patch(old: Snapshot): Promise<Snapshot> {
    patching ??= patchOf(old).finally(() => {
      patching = undefined;
    });
    return patching;
  }

  /** @param seen what the order has to have at least, so that everybody sees their own change, and in a shorter queue their new task */
  async function orderOf(seen: Pick<Snapshot, 'version' | 'newest'>): Promise<Snapshot> {
    const covers = ({ version, newest, order }: Snapshot) =>
      version >= seen.version && (order.length >= keptFrom || (newest.row >= seen.newest.row && newest.pos >= seen.newest.pos));
    const begun = making;
    if (last !== undefined && last.untilMs > 0) {
      const ageMs = performance.now() - last.untilMs;
      if (ageMs >= 0) begin().catch(() => {}); // whoever waits for the next one is told
      if (ageMs < graceMs) {
        if (covers(last)) return last;
        for (let round = 0; round < 2; round += 1) {
          const patched = await patch(last); // the first one may have begun before this caller came
          if (covers(patched)) return patched;
        }
      }
    }
    const next = begin();
    const made = await next;
    if (begun === undefined || covers(made)) return made;
    // That one was begun before this caller came; one that is begun now has seen it all.
    return begin();
  }

  return async (caller: Caller, request: QueueRequest): Promise<QueueView> => {
    const now = await readQueueNow(sql);
    const { order, forecast } = await orderOf(now);
    const entryOf = entriesOf(forecast);
    const owner = ownerOf(caller);
    const mine = (row: { readonly userId: string }) => owner === null || row.userId === owner;
    const wanted = filterOf({ ...request, models: request.models.map((text) => nameOfModel(deployment, text)) }, mine);
    const shown = wanted === null ? order : order.filter(wanted);
    const scope = JSON.stringify([
      caller.userId,
      caller.role,
      request.tasks,
      request.models,
      request.users,
      request.pools,
      request.details,
      request.templates,
      request.levels,
    ]);
    const start = request.cursor === null ? 0 : startOf(shown, request.cursor, scope);
    const page = shown.slice(start, start + request.limit);
    const tasks = await readQueuedTasks(sql, [...new Set(page.map(({ row }) => row.taskId))]);
    // What has started since the order was made is left out.
    const items = page.flatMap((entry) => {
      const task = tasks.get(entry.row.taskId);
      if (task === undefined || !stillWaits(entry.row, task)) return [];
      return [mine(entry.row) ? ownEntry(entry, task, forecast, now.pauses) : foreignEntry(entry)];
    });
    const more = start + page.length < shown.length;
    return {
      items,
      next_cursor: more ? cursorOf(page, start + page.length, shown.length, scope) : null,
      total: shown.length,
      version: now.version,
      made_at: forecast?.madeAt.toISOString() ?? null,
      pauses: now.pauses.map((pause) => pauseView(pause, caller.role === 'admin')),
      running: now.running.map((step) => runningView(step, mine(step), entryOf(step.taskId, step.step), timesOf(forecast))),
      changes: now.changes.map((change) => changeView(change, caller.role === 'admin')),
    };
  };
}

interface Shown extends Placed {
  /** among everything that waits, from 1 */
  readonly position: number;
  /** name of what its step needs; null: none */
  readonly model: string | null;
}

function* shownIn({ rows, nowMs }: Pick<QueueRows, 'rows' | 'nowMs'>, forecast: StoredForecast | null): Slices<Shown[]> {
  const models = new Map<ResidencyKey | null, string | null>();
  const modelOf = (key: ResidencyKey | null) => {
    const model = models.get(key) ?? modelOfKey(key);
    models.set(key, model);
    return model;
  };
  const order = yield* orderQueueInSlices(rows, forecast, nowMs);
  yield;
  return order.map(({ row, place, entry }, at) => ({ row, place, entry, position: at + 1, model: modelOf(row.key) }));
}

const modelOfKey = (key: ResidencyKey | null): string | null => (key === null ? null : (needOfKey(key)?.name ?? key));

function filterOf(
  { tasks, models, users, pools, details, templates, levels }: Omit<QueueRequest, 'limit' | 'cursor'>,
  mine: (row: Pick<QueueRow, 'userId'>) => boolean,
): ((shown: Shown) => boolean) | null {
  if ([tasks, models, users, pools, details, templates, levels].every((values) => values.length === 0)) return null;
  const fits = <T>(values: readonly T[], value: T | null) => values.length === 0 || (value !== null && values.includes(value));
  const hidden = [tasks, users, details, templates].some((values) => values.length > 0); // what others' entries do not show does not choose among them either
  return ({ row, model }) =>
    fits(pools, row.pool) &&
    fits(models, model) &&
    fits(levels, row.level) &&
    (!hidden || (mine(row) && fits(tasks, row.taskId) && fits(users, row.userId) && fits(details, row.detail) && fits(templates, row.template)));
}

function stillWaits({ step }: Pick<QueueRow, 'step'>, task: QueuedTask): boolean {
  return step === null ? task.status === 'queued' : task.steps.includes(step);
}

function ownEntry(
  { row, place, entry, position, model }: Shown,
  task: QueuedTask,
  forecast: StoredForecast | null,
  pauses: readonly PauseRow[],
): QueueEntryView {
  const host = entry?.host === 'general' ? null : (entry?.host ?? null);
  const pause = pauses.find(
    ({ scope }) => scope === 'queue' || (model !== null && scope === `model:${model}`) || (entry?.why === 'paused' && scope === `host:${host}`),
  );
  const why =
    pause !== undefined && !own.has(row.detail) ? 'paused' : own.has(row.detail) ? row.detail : (entry?.why ?? (row.step === null ? 'entering' : row.detail));
  const times = timesOf(forecast);
  const told = why === 'paused' ? null : entry;
  return {
    task_id: row.taskId,
    name: task.name,
    template: task.template,
    user_id: row.userId,
    status: task.status,
    status_detail: row.detail,
    priority: row.level,
    exact: row.exact,
    arrival: place + 1,
    position,
    step: row.step,
    model,
    host,
    waiting_since: new Date(row.enteredAtMs).toISOString(),
    estimated_start_time: times.at(told?.start_ms),
    estimated_start_interval: times.between(told?.start_low_ms, told?.start_high_ms),
    estimated_completion_time: times.at(told?.done_ms),
    estimated_completion_interval: times.between(told?.done_low_ms, told?.done_high_ms),
    reason: reasonOf({
      position,
      why,
      model,
      host,
      other: modelOfKey(entry?.other ?? null),
      leftMs: entry?.left_ms ?? null,
      pause: pause === undefined ? null : { what: pausedWhat(pause), reason: pause.reason },
    }),
  };
}

/** Details that say more than any forecast, since they are of this moment. */
const own: ReadonlySet<StatusDetail> = new Set(['held', 'blocked', 'waiting_dependency', 'cancelling']);

function pausedWhat({ scope }: PauseRow): string {
  if (scope === 'queue') return 'the queue';
  return scope.startsWith('host:') ? `the host ${scope.slice(5)}` : scope.slice(6);
}

function foreignEntry({ row, position, model }: Shown): QueueEntryView {
  return {
    task_id: null,
    name: null,
    template: null,
    user_id: null,
    status: null,
    status_detail: null,
    priority: row.level,
    exact: null,
    arrival: null,
    position,
    step: null,
    model,
    host: null,
    waiting_since: null,
    estimated_start_time: null,
    estimated_start_interval: null,
    estimated_completion_time: null,
    estimated_completion_interval: null,
    reason: null,
  };
}

function runningView(step: RunningRow, mine: boolean, entry: ForecastEntry | undefined, times: ReturnType<typeof timesOf>): RunningStepView {
  const { phase, done, total } = step.progress ?? {};
  const number = (value: unknown) => (typeof value === 'number' ? value : null);
  return {
    task_id: mine ? step.taskId : null,
    name: mine ? step.name : null,
    priority: step.level,
    step: mine ? step.step : null,
    model: modelOfKey(step.key),
    host: step.host,
    started_at: mine ? (step.startedAt?.toISOString() ?? null) : null,
    progress: mine && typeof phase === 'string' ? { phase, done: number(done), total: number(total) } : null,
    estimated_completion_time: mine ? times.at(entry?.done_ms) : null,
  };
}

function changeView({ host, load, pull, unload, reason, requestedBy, createdAt }: ModelChangeRow, withName: boolean): ModelChangeView {
  return {
    host,
    load: modelOfKey(load),
    pull,
    unload: unload.map((key) => modelOfKey(key) ?? key),
    reason: orderReason(reason, requestedBy, withName),
    since: createdAt.toISOString(),
  };
}

/** Times of a forecast; what it thought to be over by now is expected at once. */
function timesOf(forecast: StoredForecast | null) {
  const at = (ms: number | null | undefined) => (ms == null || forecast === null ? null : new Date(forecast.madeAt.getTime() + Math.max(0, ms)).toISOString());
  return {
    at,
    between(low: number | null | undefined, high: number | null | undefined): [string, string] | null {
      const [from, to] = [at(low), at(high)];
      return from === null || to === null ? null : [from, to];
    },
  };
}

// A cursor knows the last entries of its page, since places change while somebody turns pages: the next page begins behind the last of them that still waits.
// Where none does, it begins as far before its old place as the queue has become shorter. It does not hold their ids and steps, which may be others’.

const namedMax = 3;
const CursorContent = z.tuple([z.int().min(0), z.int().min(0), z.array(z.string().max(50)).max(namedMax)]);

function cursorOf(page: readonly Shown[], next: number, total: number, scope: string): string {
  const named = page.slice(-namedMax).map(({ row }) => markOf(row));
  return sealCursor(JSON.stringify([next, total, named]), scope);
}

/** @throws {ProblemError} invalid_request */
function startOf(shown: readonly Shown[], cursor: string, scope: string): number {
  const [next, total, named] = contentOf(openCursor(cursor, scope));
  for (const mark of named.toReversed()) {
    const at = shown.findIndex(({ row }) => row.taskId.endsWith(mark.slice(0, markIdChars)) && markOf(row) === mark);
    if (at >= 0) return at + 1;
  }
  return Math.max(0, next - Math.max(0, total - shown.length));
}

/** @throws {ProblemError} invalid_request */
function contentOf(text: string): z.output<typeof CursorContent> {
  try {
    return CursorContent.parse(JSON.parse(text));
  } catch {
    throw foreignCursor();
  }
}

// The end of the id, so that only the few rows that have it are looked at closely.
const markIdChars = 8;
const markOf = ({ taskId, step }: Pick<QueueRow, 'taskId' | 'step'>) => taskId.slice(-markIdChars) + checksum(step ?? '', taskId);
