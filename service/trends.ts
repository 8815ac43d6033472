import { setImmediate } from 'node:timers/promises';
import { type ReportRange, reportRanges, type TrendsView } from '../contract/schemas/reports.js';
import type { FinalStatus } from '../contract/status.js';
import { countEnded, countSteps, type EndedCount, endedMax, type Spread } from '../db/trends.js';
import { type Caller, ownerOf } from './caller.js';
import type { ServiceDeps } from './deps.js';

export interface TrendsRequest {
  readonly range: ReportRange;
  /** empty: all */
  readonly templates: readonly string[];
}

const stepsMax = 20;
/** An open page asks whenever a task has changed; the counts of a long range are made again no sooner than this. */
const keepMs = 5_000;

/** The caller's tasks that ended in a range of time: how many, how, how long they ran and waited, by template, and their slowest steps. */
export function trendsUseCase({ sql }: ServiceDeps) {
  const kept = new Map<string, { readonly madeMs: number; readonly trends: Promise<TrendsView> }>();
  return (caller: Caller, { range, templates }: TrendsRequest): Promise<TrendsView> => {
    const nowMs = performance.now();
    for (const [key, { madeMs }] of kept) if (nowMs - madeMs >= keepMs) kept.delete(key);
    const key = JSON.stringify([ownerOf(caller), range, templates]);
    const found = kept.get(key)?.trends;
    if (found !== undefined) return found;
    const trends = readTrends(sql, ownerOf(caller), range, templates);
    trends.catch(() => kept.delete(key));
    kept.set(key, { madeMs: nowMs, trends });
    return trends;
  };
}

async function readTrends(sql: ServiceDeps['sql'], owner: string | null, range: ReportRange, templates: readonly string[]): Promise<TrendsView> {
  const { seconds, bucketSeconds } = reportRanges[range];
  const until = new Date();
  const since = new Date(until.getTime() - seconds * 1_000);
  const filter = { owner, templates, since };
  const [buckets, steps] = await Promise.all([countEnded(sql, filter, bucketSeconds), countSteps(sql, filter, stepsMax)]);
  const byTemplate = new Map<string, EndedCount[]>();
  for (const bucket of buckets) {
    const found = byTemplate.get(bucket.template);
    if (found === undefined) byTemplate.set(bucket.template, [bucket]);
    else found.push(bucket);
  }
  const whole = [];
  for (const [template, ended] of byTemplate) {
    whole.push({
      template,
      ...countsOf(ended),
      buckets: ended.map((bucket) => ({ at: new Date(bucket.bucket * 1_000).toISOString(), ...countsOf([bucket]) })),
    });
    await setImmediate(); // many durations keep nobody waiting
  }
  const total = whole.reduce((sum, count) => sum + endedOf(count), 0);
  return {
    from: since.toISOString(),
    until: until.toISOString(),
    bucket_seconds: bucketSeconds,
    complete: total < endedMax,
    templates: whole.sort((a, b) => endedOf(b) - endedOf(a)),
    steps: steps.map(({ stepType, ...step }) => ({ ...step, step_type: stepType })),
  };
}

function countsOf(ended: readonly EndedCount[]) {
  const sum = (status: FinalStatus) => ended.reduce((all, count) => all + count[status], 0);
  return {
    completed: sum('completed'),
    failed: sum('failed'),
    cancelled: sum('cancelled'),
    ran: spreadOf(ended.map(({ ran }) => ran)),
    waited: spreadOf(ended.map(({ waited }) => waited)),
  };
}

function endedOf({ completed, failed, cancelled }: Readonly<Record<FinalStatus, number>>): number {
  return completed + failed + cancelled;
}

/** Median and 90th percentile of durations in seconds, to the millisecond; between two of them where they fall between. */
export function spreadOf(parts: readonly Float32Array[]): Spread {
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let filled = 0;
  for (const part of parts) {
    all.set(part, filled);
    filled += part.length;
  }
  all.sort();
  return { median: percentileOf(all, 0.5), p90: percentileOf(all, 0.9) };
}

function percentileOf(sorted: Float32Array, share: number): number | null {
  const place = share * (sorted.length - 1);
  const [low, high] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]];
  return low === undefined || high === undefined ? null : Math.round((low + (place - Math.floor(place)) * (high - low)) * 1_000) / 1_000;
}
