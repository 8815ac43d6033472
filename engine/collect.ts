import type { Logger } from 'pino';
import { settleAlerts } from '../db/alerts.js';
import type { Sql } from '../db/connect.js';
import { collectMetrics, readMetrics } from '../db/metrics.js';
import { beginCollection, endCollection, readSeenSince } from '../db/observations.js';
import { type AlertSettings, findingsOf, samplesOf, stateOf } from './collected.js';

export interface CollectSettings {
  readonly intervalMs: number;
  /** days that samples are kept */
  readonly keptDays: number;
  readonly alerts: AlertSettings;
}

/** One run of the loop that collects: each interval one of the engines keeps its samples and settles the alerts. */
export function createCollector({
  sql,
  settings,
  log,
}: {
  readonly sql: Sql;
  readonly settings: CollectSettings;
  readonly log: Logger;
}): () => Promise<undefined> {
  return async () => {
    const begun = await beginCollection(sql, settings.intervalMs);
    if (begun === null) return undefined;
    const { at, before } = begun;
    const since = before?.at ?? new Date(at.getTime() - settings.intervalMs);
    await collectMetrics(sql);
    const [now, seen] = await Promise.all([readMetrics(sql), readSeenSince(sql, since, at)]);
    const state = stateOf(now, seen);
    const samples = samplesOf(before?.state ?? null, state, now, seen, (at.getTime() - since.getTime()) / 1_000);
    await endCollection(sql, { at, state, samples, keptDays: settings.keptDays });
    const { fired, cleared } = await settleAlerts(sql, findingsOf(samples, settings.alerts));
    for (const { message, ...alert } of fired) log.warn({ alert }, message);
    for (const alert of cleared) log.info({ alert }, 'the alert has cleared');
    return undefined;
  };
}
