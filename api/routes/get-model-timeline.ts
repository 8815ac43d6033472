import { createRoute, z } from '@hono/zod-openapi';
import { ModelTimeline } from '../../contract/schemas/model-timeline.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { problems } from '../problem.js';
import { wholeNumber } from '../query-values.js';

const minutesMax = 1_440;

const TimelineQuery = z.strictObject({
  past_minutes: wholeNumber(1, minutesMax)
    .optional()
    .meta({ type: 'integer', minimum: 1, maximum: minutesMax, default: 60, description: 'How far to look back', example: 60 }),
  ahead_minutes: wholeNumber(0, minutesMax)
    .optional()
    .meta({ type: 'integer', minimum: 0, maximum: minutesMax, default: 60, description: 'How far to look ahead', example: 60 }),
});

export const getModelTimeline = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/models/timeline',
    operationId: 'getModelTimeline',
    tags: ['models'],
    summary: 'See what is loaded when',
    description: 'What each host had, has and is predicted to have in memory, and the steps on it. Of steps of others only time and model are shown.',
    request: { query: TimelineQuery },
    responses: { 200: json(ModelTimeline, 'Past, present and forecast.'), ...problems('invalid_request') },
  }),
  async (c) => {
    const { past_minutes: pastMinutes = 60, ahead_minutes: aheadMinutes = 60 } = c.req.valid('query');
    return c.json(await c.var.services.modelTimeline(callerOf(c), { pastMinutes, aheadMinutes }), 200);
  },
);
