import { createRoute, z } from '@hono/zod-openapi';
import { modelNameCharsMax } from '../../contract/model-name.js';
import { Queue } from '../../contract/schemas/queue.js';
import { statusDetails } from '../../contract/status.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { problems } from '../problem.js';
import { repeatable, wholeNumber } from '../query-values.js';

const limitDefault = 50;
const limitMax = 500;

const QueueQuery = z.strictObject({
  task_id: repeatable(z.string().max(100), 'Steps of this task'),
  model: repeatable(z.string().min(1).max(modelNameCharsMax), 'Steps that need this model, a name or an alias'),
  user: repeatable(z.string().min(1).max(255), 'Tasks of this user'),
  pool: repeatable(z.enum(['general', 'model']), 'Steps with a model, or without'),
  status_detail: repeatable(z.enum(statusDetails), 'Why they wait'),
  limit: wholeNumber(1, limitMax)
    .optional()
    .meta({ type: 'integer', minimum: 1, maximum: limitMax, default: limitDefault, description: 'Entries on a page', example: limitDefault }),
  cursor: z.string().min(1).max(2_000).optional().meta({ description: '`next_cursor` of the page before, with the same filters' }),
});

export const getQueue = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/queue',
    operationId: 'getQueue',
    tags: ['queue'],
    summary: 'Look at the queue',
    description:
      'What waits, in the order in which it is predicted to start, page by page, with times and the reason of each. Steps that the forecast has not seen yet stand where the line puts them, without times. Of tasks of others only place, model and priority are shown; filters by task, user or reason leave them out.',
    request: { query: QueueQuery },
    responses: { 200: json(Queue, 'One page.'), ...problems('invalid_request') },
  }),
  async (c) => {
    const { task_id: tasks, model, user, pool, status_detail: details, limit, cursor } = c.req.valid('query');
    const request = { tasks, models: model, users: user, pools: pool, details, limit: limit ?? limitDefault, cursor: cursor ?? null };
    return c.json(await c.var.services.listQueue(callerOf(c), request), 200);
  },
);
