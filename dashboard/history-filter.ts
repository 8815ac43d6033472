import { z } from '@hono/zod-openapi';
import { repeatable } from '../api/query-values.js';
import { TaskFilterQuery } from '../api/task-filter-query.js';
import type { BulkRequestInput } from '../contract/schemas/many.js';
import { finalStatuses, isFinal, type TaskStatus, taskStatuses } from '../contract/status.js';
import type { ListTasksRequest } from '../service/list-tasks.js';

const day = z.iso.date().refine((text) => text >= '1900' && text < '9999', { error: 'expected a day such as 2026-01-09' });

/** The query of the page of the history: the filters of the API, with days instead of moments, and what has ended unless a status is named. */
export const HistoryQuery = z.strictObject({
  status: repeatable(z.enum([...taskStatuses, 'all']), 'One of the statuses, or all'),
  template: TaskFilterQuery.template,
  priority: TaskFilterQuery.priority,
  user_id: TaskFilterQuery.user_id,
  name: TaskFilterQuery.name,
  /** days in UTC, both included: of the end, or of the creation where not all that is shown has ended */
  from: day.optional(),
  to: day.optional(),
  cursor: z.string().min(1).max(500).optional(),
});
export type HistoryFilter = ListTasksRequest['filter'];
type BulkFilter = NonNullable<BulkRequestInput['filter']>;

const dayMs = 86_400_000;

/** What a history is asked for; the two days in either order, since each of them is sent as soon as it is chosen. */
export function historyFilterOf({ status, template, priority, user_id: users, name, ...days }: z.output<typeof HistoryQuery>): HistoryFilter {
  const [from, to] = days.from !== undefined && days.to !== undefined && days.from > days.to ? [days.to, days.from] : [days.from, days.to];
  const statuses = status.length === 0 ? finalStatuses : status.filter((each): each is TaskStatus => each !== 'all');
  const after = from === undefined ? null : new Date(Date.parse(from) - 1); // that moment itself is left out
  const before = to === undefined ? null : new Date(Date.parse(to) + dayMs);
  const none = { createdAfter: null, createdBefore: null };
  return {
    statuses,
    templates: template,
    levels: priority,
    types: [],
    userIds: users,
    name: name ?? null,
    ...(orderOf(statuses) === 'ended' ? { ...none, endedAfter: after, endedBefore: before } : { createdAfter: after, createdBefore: before }),
  };
}

/** What has ended stands by its end, so that what just failed is on top; a list with anything else stands by its creation. */
export function orderOf(statuses: HistoryFilter['statuses']): 'ended' | 'created' {
  return statuses.length > 0 && statuses.every((status) => (taskStatuses as readonly string[]).includes(status) && isFinal(status as TaskStatus))
    ? 'ended'
    : 'created';
}

/** A filter in words, for a question about all that fits it. */
export function filterText(filter: BulkFilter, allUsers: boolean): string {
  const day = (at: string) => at.slice(0, 10);
  const parts = [
    `status ${filter.status.join(' or ')}`,
    ...(filter.template.length === 0 ? [] : [`template ${filter.template.join(' or ')}`]),
    ...(filter.priority.length === 0 ? [] : [`priority ${filter.priority.join(' or ')}`]),
    ...(filter.name === null ? [] : [`“${filter.name}” in the name`]),
    ...(filter.ended_after === null ? [] : [`ended from ${day(new Date(Date.parse(filter.ended_after) + 1).toISOString())}`]),
    ...(filter.ended_before === null ? [] : [`ended before ${day(filter.ended_before)}`]),
    ...(filter.created_after === null ? [] : [`created from ${day(new Date(Date.parse(filter.created_after) + 1).toISOString())}`]),
  ];
  const whose = !allUsers ? 'Your tasks' : filter.user_id.length > 0 ? `Tasks of ${filter.user_id.join(' or ')}` : 'Tasks of all users';
  return `${whose} with ${parts.join(', ')}.`;
}

/** The address of the report of these tasks. */
export function reportAddress(filter: HistoryFilter, format: 'csv' | 'json'): string {
  const query = new URLSearchParams({ format });
  for (const status of filter.statuses) query.append('status', status);
  for (const template of filter.templates) query.append('template', template);
  for (const level of filter.levels) query.append('priority', String(level));
  for (const user of filter.userIds) query.append('user_id', user);
  if (filter.name !== null) query.set('name', filter.name);
  if (filter.createdAfter !== null) query.set('created_after', filter.createdAfter.toISOString());
  if (filter.createdBefore !== null) query.set('created_before', filter.createdBefore.toISOString());
  if (filter.endedAfter != null) query.set('ended_after', filter.endedAfter.toISOString());
  if (filter.endedBefore != null) query.set('ended_before', filter.endedBefore.toISOString());
  return `/api/v1/reports/tasks?${query}`;
}

/**
 * What a bulk request for some of these tasks names.
 * @param statuses those that the action is for
 * @param now tasks that are created later are not meant
 * @returns null when the filter shows no task of these statuses
 */
export function bulkFilter(filter: HistoryFilter, statuses: readonly TaskStatus[], now: Date): BulkFilter | null {
  const meant = statuses.filter((status) => filter.statuses.length === 0 || filter.statuses.includes(status));
  if (meant.length === 0) return null;
  return {
    status: meant,
    template: [...filter.templates],
    priority: [...filter.levels],
    type: [],
    user_id: [...filter.userIds],
    name: filter.name,
    created_after: filter.createdAfter?.toISOString() ?? null,
    created_before: (filter.createdBefore !== null && filter.createdBefore < now ? filter.createdBefore : now).toISOString(),
    ended_after: filter.endedAfter?.toISOString() ?? null,
    ended_before: filter.endedBefore?.toISOString() ?? null,
  };
}
