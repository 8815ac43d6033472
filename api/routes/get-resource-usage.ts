import { createRoute, z } from '@hono/zod-openapi';
import { ResourceUsageHistory } from '../../contract/schemas/observations.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { problems } from '../problem.js';
import { wholeNumber } from '../query-values.js';

const minutesMax = 2_880;

const UsageQuery = z.strictObject({
  minutes: wholeNumber(1, minutesMax)
    .optional()
    .meta({ type: 'integer', minimum: 1, maximum: minutesMax, default: 60, description: 'How far to look back', example: 60 }),
});

export const getResourceUsage = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/resources/usage',
    operationId: 'getResourceUsage',
    tags: ['health'],
    summary: 'See how machines were used',
    description:
      'Processors, memory and GPUs of each machine over time, and what was done: tasks, tokens, and time lost to loading models. At most 120 points.',
    request: { query: UsageQuery },
    responses: { 200: json(ResourceUsageHistory, 'Machines and what they did.'), ...problems('invalid_request') },
  }),
  async (c) => c.json(await c.var.services.resourceUsage(c.req.valid('query').minutes ?? 60), 200),
);
