import { createRoute, z } from '@hono/zod-openapi';
import { ErrorGroups, groupIdsMax } from '../../contract/schemas/reports.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { problems } from '../problem.js';
import { wholeNumber } from '../query-values.js';
import { ReportQuery } from '../report-query.js';

const ErrorQuery = z.strictObject({
  ...ReportQuery,
  group: z.string().min(1).max(50).optional().meta({ description: 'Only the group with this `key`' }),
  ids: wholeNumber(0, groupIdsMax)
    .optional()
    .meta({ type: 'integer', minimum: 0, maximum: groupIdsMax, default: 1, description: 'Tasks that each group names, the latest', example: 1 }),
});

export const getErrorGroups = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/reports/errors',
    operationId: 'reportErrors',
    tags: ['reports'],
    summary: 'Group failed tasks by what went wrong',
    description:
      'Tasks that failed in the range and were not retried, by template, step, code and message; ids, times, paths, addresses and numbers in messages count as the same. The 100 largest groups. With `group` and `ids=1000` it names the tasks to retry together.',
    request: { query: ErrorQuery },
    responses: { 200: json(ErrorGroups, 'The groups.'), ...problems('invalid_request') },
  }),
  async (c) => {
    const { range, template, group, ids } = c.req.valid('query');
    return c.json(await c.var.services.errorGroups(callerOf(c), { range, templates: template, group: group ?? null, ids: ids ?? 1 }), 200);
  },
);
