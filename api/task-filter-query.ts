import { z } from '@hono/zod-openapi';
import { levelMax } from '../contract/priority.js';
import { isStorableTime, storableTimeText } from '../contract/schemas/time.js';
import { type StatusFilter, statusFilters } from '../service/list-tasks.js';
import { repeatable, wholeNumber } from './query-values.js';

const statusAliases: Readonly<Record<string, StatusFilter>> = { pending: 'queued', in_progress: 'running' };

// PostgreSQL has no NUL in a text.
const time = z.iso
  .datetime({ offset: true })
  .refine(isStorableTime, { error: storableTimeText })
  .transform((text) => new Date(text));
const name = z
  .string()
  .min(1)
  .max(255)
  .refine((text) => !text.includes('\0'), { error: 'expected a text without NUL' });

/** The filters of a list of tasks, and of a report of them. */
export const TaskFilterQuery = {
  status: repeatable(
    z.enum([...statusFilters, 'pending', 'in_progress']),
    'One of the statuses; `pending` is `queued`, `in_progress` is `running`, `created` and `waiting` are queued tasks before and after a run took them up',
  ),
  template: repeatable(name, 'Name of a template'),
  priority: repeatable(wholeNumber(1, levelMax), '1 to 10'),
  type: repeatable(name, 'Type of the task'),
  user_id: repeatable(name, 'Owner; only administrators see tasks of others'),
  name: name
    .optional()
    .meta({ type: 'string', minLength: 1, maxLength: 255, description: 'A text that the name contains, upper and lower case alike', example: 'nightly' }),
  created_after: time
    .optional()
    .meta({ type: 'string', format: 'date-time', description: 'Only tasks created later than this time', example: '2026-01-09T00:00:00Z' }),
  created_before: time
    .optional()
    .meta({ type: 'string', format: 'date-time', description: 'Only tasks created earlier than this time', example: '2026-01-10T00:00:00Z' }),
  ended_after: time
    .optional()
    .meta({ type: 'string', format: 'date-time', description: 'Only tasks that ended later than this time', example: '2026-01-09T00:00:00Z' }),
  ended_before: time
    .optional()
    .meta({ type: 'string', format: 'date-time', description: 'Only tasks that ended earlier than this time', example: '2026-01-10T00:00:00Z' }),
};

/** What the filters of a query mean; values of one filter are alternatives. */
export function filterOf(query: z.output<z.ZodObject<typeof TaskFilterQuery>>) {
  return {
    statuses: query.status.map((status) => statusAliases[status] ?? (status as StatusFilter)),
    templates: query.template,
    levels: query.priority,
    types: query.type,
    userIds: query.user_id,
    name: query.name ?? null,
    createdAfter: query.created_after ?? null,
    createdBefore: query.created_before ?? null,
    endedAfter: query.ended_after ?? null,
    endedBefore: query.ended_before ?? null,
  };
}
