import type { Logger } from 'pino';
import { addMetrics, collectMetrics } from '../db/metrics.js';
import type { Sql } from '../db/connect.js';
import { startLoop } from '../loop.js';
import { createMetricBuffer, type MetricBuffer } from '../metrics.js';

const everyMs = 5_000;

/** What a process counts, brought to the database every few seconds and at its end. A kill -9 loses the counts of those seconds, none of the tasks'. */
export function startMetrics(sql: Sql, log: Logger): { readonly buffer: MetricBuffer; stop(): Promise<void> } {
  const buffer = createMetricBuffer();
  const bring = async () => {
    await buffer.flush((deltas) => addMetrics(sql, deltas));
    await collectMetrics(sql);
    return undefined;
  };
  const loop = startLoop({ name: 'metrics', everyMs, run: bring, log });
  return {
    buffer,
    async stop() {
      await loop.stop();
      await bring().catch((error: unknown) => log.warn({ err: error }, 'the last metrics were not brought to the database'));
    },
  };
}
