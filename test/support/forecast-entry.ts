import type { ForecastEntry } from '../../contract/forecast.js';

/** What a forecast says of a step that starts in a minute and takes half a minute, with intervals; its task ends in two and a half. */
export const forecastEntry = (taskId: string, more: Partial<ForecastEntry> = {}): ForecastEntry => ({
  task_id: taskId,
  step: 'ollama_generate',
  pool: 'model',
  key: 'llama3.2:latest~ctx4096',
  host: 'gpu-1',
  position: 1,
  start_ms: 60_000,
  start_low_ms: 50_000,
  start_high_ms: 80_000,
  finish_ms: 90_000,
  finish_low_ms: 80_000,
  finish_high_ms: 120_000,
  done_ms: 150_000,
  done_low_ms: 100_000,
  done_high_ms: 200_000,
  why: 'waiting_slot',
  other: null,
  left_ms: null,
  ...more,
});
