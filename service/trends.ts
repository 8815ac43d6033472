import { type ReportRange, reportRanges, type TrendsView } from '../contract/schemas/reports.js';
import { countEnded, countSteps, type EndedCount, endedMax } from '../db/trends.js';
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
  const [whole, buckets, steps] = await Promise.all([countEnded(sql, filter, null), countEnded(sql, filter, bucketSeconds), countSteps(sql, filter, stepsMax)]);
  const byTemplate = new Map<string, EndedCount[]>();
  for (const bucket of buckets) byTemplate.set(bucket.template, [...(byTemplate.get(bucket.template) ?? []), bucket]);
  const total = whole.reduce((sum, count) => sum + endedOf(count), 0);
  return {
    from: since.toISOString(),
    until: until.toISOString(),
    bucket_seconds: bucketSeconds,
    complete: total < endedMax,
    templates: whole
      .sort((a, b) => endedOf(b) - endedOf(a))
      .map(({ template, completed, failed, cancelled, ran, waited }) => ({
        template,
        completed,
        failed,
        cancelled,
        ran,
        waited,
        buckets: (byTemplate.get(template) ?? []).map(({ bucket, ...counts }) => ({
          at: new Date((bucket ?? 0) * 1_000).toISOString(),
          completed: counts.completed,
          failed: counts.failed,
          cancelled: counts.cancelled,
          ran: counts.ran,
          waited: counts.waited,
        })),
      })),
    steps: steps.map(({ stepType, ...step }) => ({ ...step, step_type: stepType })),
  };
}

function endedOf({ completed, failed, cancelled }: EndedCount): number {
  return completed + failed + cancelled;
}
