import { createHash } from 'node:crypto';
import { type ErrorGroupsView, type ErrorGroupView, type ReportRange, reportRanges } from '../contract/schemas/reports.js';
import { countFailures, type FailureCount, failuresMax } from '../db/trends.js';
import { type Caller, ownerOf } from './caller.js';
import type { ServiceDeps } from './deps.js';
import { errorPattern } from './error-pattern.js';

export interface ErrorGroupsRequest {
  readonly range: ReportRange;
  /** empty: all */
  readonly templates: readonly string[];
  /** only the group of this key; null: all */
  readonly group: string | null;
  /** ids of tasks that each group names at most, 0 to 1,000 */
  readonly ids: number;
}

/** Groups that are told of at most. */
const groupsMax = 100;

/** The caller's tasks that failed in a range of time and have not been retried, by what went wrong. */
export function errorGroupsUseCase({ sql }: ServiceDeps) {
  return async (caller: Caller, { range, templates, group, ids }: ErrorGroupsRequest): Promise<ErrorGroupsView> => {
    const until = new Date();
    const since = new Date(until.getTime() - reportRanges[range].seconds * 1_000);
    const failures = await countFailures(sql, { owner: ownerOf(caller), templates, since }, ids);
    const failed = failures.reduce((sum, { count }) => sum + count, 0);
    const items = groupFailures(failures, ids).filter(({ key }) => group === null || key === group);
    return { from: since.toISOString(), until: until.toISOString(), complete: failed < failuresMax, failed, items: items.slice(0, groupsMax) };
  };
}

/** Failures whose template, step, code and pattern are the same are one group; the largest group first, of equal ones the latest. @param failures the latest first */
export function groupFailures(failures: readonly FailureCount[], ids: number): ErrorGroupView[] {
  const groups = new Map<string, ErrorGroupView & { task_ids: string[] }>();
  for (const { template, step, code, message, count, firstAt, lastAt, taskIds } of failures) {
    const pattern = errorPattern(message);
    const key = keyOf([template, step, code, pattern]);
    const [first, last] = [firstAt.toISOString(), lastAt.toISOString()];
    const known = groups.get(key);
    if (known === undefined) {
      groups.set(key, { key, template, step, code, pattern, message, count, first_seen: first, last_seen: last, task_ids: taskIds.slice(0, ids) });
      continue;
    }
    known.count += count;
    if (first < known.first_seen) known.first_seen = first;
    if (last > known.last_seen) known.last_seen = last;
    if (known.task_ids.length < ids) known.task_ids.push(...taskIds.slice(0, ids - known.task_ids.length));
  }
  return [...groups.values()].sort((a, b) => b.count - a.count || (a.last_seen < b.last_seen ? 1 : -1));
}

function keyOf(parts: readonly (string | null)[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('base64url').slice(0, 16);
}
