import { createRoute, z } from '@hono/zod-openapi';
import { modelNameCharsMax } from '../../contract/model-name.js';
import { DecisionList, decisionKinds } from '../../contract/schemas/decision.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { problems } from '../problem.js';
import { repeatable, wholeNumber } from '../query-values.js';

const limitDefault = 50;
const limitMax = 200;

const DecisionsQuery = z.strictObject({
  task_id: z.string().max(100).optional().meta({ description: 'What concerns this task of yours: its slots, and the loads that were ordered for it' }),
  model: repeatable(z.string().min(1).max(modelNameCharsMax), 'What concerns this model, a name or an alias'),
  host: repeatable(z.string().min(1).max(63), 'What concerns this host; `general`: steps without a model'),
  kind: repeatable(z.enum(decisionKinds), 'What was decided'),
  limit: wholeNumber(1, limitMax)
    .optional()
    .meta({ type: 'integer', minimum: 1, maximum: limitMax, default: limitDefault, description: 'Decisions on a page', example: limitDefault }),
  cursor: z.string().min(1).max(500).optional().meta({ description: '`next_cursor` of the page before, with the same filters' }),
});

export const listDecisions = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/decisions',
    operationId: 'listDecisions',
    tags: ['queue'],
    summary: 'List decisions',
    description:
      'What the scheduler decided, newest first: which step got which slot, which model was loaded instead of which, and why, with the score of what had to go. Slots of tasks of others are left out.',
    request: { query: DecisionsQuery },
    responses: { 200: json(DecisionList, 'One page.'), ...problems('invalid_request') },
  }),
  async (c) => {
    const { task_id: taskId, model, host, kind, limit, cursor } = c.req.valid('query');
    const request = { taskId: taskId ?? null, models: model, hosts: host, kinds: kind, limit: limit ?? limitDefault, cursor: cursor ?? null };
    return c.json(await c.var.services.listDecisions(callerOf(c), request), 200);
  },
);
