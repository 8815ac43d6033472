import { createRoute, z } from '@hono/zod-openapi';
import { Trends } from '../../contract/schemas/reports.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { problems } from '../problem.js';
import { ReportQuery } from '../report-query.js';

export const getTrends = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/reports/trends',
    operationId: 'reportTrends',
    tags: ['reports'],
    summary: 'See how tasks end over time',
    description:
      'Tasks that ended in the range, by template and hour (24h), six hours (7d) or day (30d): how many completed, failed and were cancelled, how long they ran and waited, and the slowest steps. Users see their own tasks.',
    request: { query: z.strictObject(ReportQuery) },
    responses: { 200: json(Trends, 'The trends.'), ...problems('invalid_request') },
  }),
  async (c) => {
    const { range, template } = c.req.valid('query');
    return c.json(await c.var.services.trends(callerOf(c), { range, templates: template }), 200);
  },
);
