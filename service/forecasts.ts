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

/**
 * Reads the last forecast. It is kept, so that a look costs one small query until there is a new one.
 * @returns the estimates of the moment, for each call
 */
export function estimatesReader(sql: Sql): () => Promise<Estimates> {
  let last: StoredForecast | null = null;
  let byTask = new Map<string, ForecastEntry[]>();
  return async () => {
    const forecast = await readForecast(sql, { known: last });
    if (forecast !== last) {
      last = forecast;
      byTask = new Map();
      for (const entry of forecast?.entries ?? []) byTask.set(entry.task_id, [...(byTask.get(entry.task_id) ?? []), entry]);
    }
    const madeAtMs = forecast?.madeAt.getTime() ?? 0;
    const known = byTask;
    return (taskId) => estimateOf(known.get(taskId) ?? [], madeAtMs);
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
