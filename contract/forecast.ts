import type { Pool } from './plan.js';
import type { ResidencyKey } from './queues.js';

/** What a step waits for, as the forecast sees it. */
export const forecastReasons = [
  'waiting_slot',
  'waiting_model',
  'behind',
  'quantum',
  'changing',
  'no_room',
  'backing_off',
  'fetching',
  'no_host',
  'paused',
  'held',
  'waiting_dependency',
  'blocked',
  'waiting_lock',
  'waiting_resource',
  /** what it needs is free, but kept for a task before it that lacks some of it */
  'reserved',
] as const; // forecasts are stored with places in this list: a new one comes last
export type ForecastReason = (typeof forecastReasons)[number];

/**
 * A step of the line: those that run or are granted first, then those that wait in the order in which they are predicted to start, then those of
 * which nothing can be told. Times are milliseconds from the moment the forecast was made; `low` and `high` bound an interval that is meant to hold in 80 of
 * 100 cases. A time is null where nothing can be told: paused, held, blocked, or without a host.
 */
export interface ForecastEntry {
  readonly task_id: string;
  readonly step: string;
  readonly pool: Pool;
  readonly key: ResidencyKey | null;
  /** where it runs, or is predicted to run; `general` for a step without a model; null where nothing can be told */
  readonly host: string | null;
  /** place among the steps that wait, in the order of their starts, from 1; null for one that runs or is granted */
  readonly position: number | null;
  /** 0 or less for a step that runs */
  readonly start_ms: number | null;
  readonly start_low_ms: number | null;
  readonly start_high_ms: number | null;
  /** end of this step */
  readonly finish_ms: number | null;
  readonly finish_low_ms: number | null;
  readonly finish_high_ms: number | null;
  /** end of its task, which may have later steps */
  readonly done_ms: number | null;
  readonly done_low_ms: number | null;
  readonly done_high_ms: number | null;
  /** null for a step that runs or is granted */
  readonly why: ForecastReason | null;
  /** the model that is served meanwhile, or that is in the way */
  readonly other: ResidencyKey | null;
  /** service that the other one has left; null where that is not what it waits for */
  readonly left_ms: number | null;
}

export interface StoredForecast {
  /** grows with every forecast */
  readonly version: number;
  readonly madeAt: Date;
  readonly entries: readonly ForecastEntry[];
}
