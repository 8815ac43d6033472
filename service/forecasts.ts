import type { ForecastEntry, StoredForecast } from '../contract/forecast.js';
import type { Sql } from '../db/connect.js';
import { readForecast } from '../db/forecasts.js';

/** When a task is expected to start and to end; null where nothing can be told. */
export interface TaskEstimate {
  readonly startsAt: Date | null;
  readonly completesAt: Date | null;
}

export const noEstimate: TaskEstimate = { startsAt: null, completesAt: null };

/** The estimates of the last forecast, by task. */
export type Estimates = (taskId: string) => TaskEstimate;

/** The last forecast, or null. */
export type ReadForecast = () => Promise<StoredForecast | null>;

/** Reads the last forecast. It is kept, so that a look costs one small query until there is a new one, which is read once for all who ask meanwhile. */
export function forecastReader(sql: Sql): ReadForecast {
  let last: StoredForecast | null = null;
  let reading: Promise<StoredForecast | null> | undefined;
  const read = async () => {
    last = await readForecast(sql, { known: last });
    return last;
  };
  return async () => {
    // One that is under way may have begun before what the caller knows was written.
    await reading?.catch(() => {});
    reading ??= read().finally(() => {
      reading = undefined;
    });
    return reading;
  };
}

/** An entry, and its place in the forecast. */
export interface PlacedEntry {
  readonly entry: ForecastEntry;
  readonly at: number;
}

/** By task, its steps of the line; nearly all have one. */
export type EntriesByTask = ReadonlyMap<string, readonly PlacedEntry[]>;

const none: EntriesByTask = new Map();
// A forecast is looked at many times before there is a new one.
const known = new WeakMap<StoredForecast, EntriesByTask>();

export function entriesByTask(forecast: StoredForecast | null): EntriesByTask {
  if (forecast === null) return none;
  const found = known.get(forecast);
  if (found !== undefined) return found;
  const made = new Map<string, PlacedEntry[]>();
  for (const [at, entry] of forecast.entries.entries()) {
    const steps = made.get(entry.task_id);
    if (steps === undefined) made.set(entry.task_id, [{ entry, at }]);
    else steps.push({ entry, at });
  }
  known.set(forecast, made);
  return made;
}

/** @returns the estimates of the moment, for each call */
export function estimatesReader(forecastNow: ReadForecast): () => Promise<Estimates> {
  return async () => {
    const forecast = await forecastNow();
    const byTask = entriesByTask(forecast);
    const madeAtMs = forecast?.madeAt.getTime() ?? 0;
    return (taskId) => estimateOf(byTask.get(taskId)?.map(({ entry }) => entry) ?? [], madeAtMs);
  };
}

function estimateOf(entries: readonly ForecastEntry[], madeAtMs: number): TaskEstimate {
  const waiting = entries.every(({ position }) => position !== null);
  const starts = entries.flatMap(({ start_ms: ms }) => (ms === null ? [] : [ms]));
  const ends = entries.flatMap(({ done_ms: ms }) => (ms === null ? [] : [ms]));
  const at = (ms: number) => new Date(madeAtMs + Math.max(0, ms));
  return {
    startsAt: waiting && starts.length > 0 ? at(Math.min(...starts)) : null,
    completesAt: ends.length > 0 && ends.length === entries.length ? at(Math.max(...ends)) : null,
  };
}
