import { createRoute, z } from '@hono/zod-openapi';
import { PerformanceReport } from '../../contract/schemas/observations.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { problems } from '../problem.js';
import { wholeNumber } from '../query-values.js';

const hoursMax = 8_760;

const ReportQuery = z.strictObject({
  hours: wholeNumber(1, hoursMax).optional().meta({
    type: 'integer',
    minimum: 1,
    maximum: hoursMax,
    default: 24,
    description: 'How far to look back; availability is that of the last 12 months',
    example: 24,
  }),
});

export const getPerformanceReport = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/reports/performance',
    operationId: 'getPerformanceReport',
    tags: ['health'],
    summary: 'Report performance',
    description: 'Times of tasks, use of resources, means of what is collected, and availability by month.',
    request: { query: ReportQuery },
    responses: { 200: json(PerformanceReport, 'The report.'), ...problems('invalid_request') },
  }),
  async (c) => c.json(await c.var.services.performanceReport(c.req.valid('query').hours ?? 24), 200),
);
