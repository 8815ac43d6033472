import { createRoute } from '@hono/zod-openapi';
import { Queue } from '../../contract/schemas/queue.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { problems } from '../problem.js';
import { QueueQuery, queueRequestOf } from '../queue-query.js';

export const getQueue = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/queue',
    operationId: 'getQueue',
    tags: ['queue'],
    summary: 'Look at the queue',
    description:
      'What waits, in the order in which it is predicted to start, page by page, with times and the reason of each. Steps that the forecast has not seen yet stand where the line puts them, without times. Of tasks of others only place, model and priority are shown; filters by task, user, template or reason leave them out.',
    request: { query: QueueQuery },
    responses: { 200: json(Queue, 'One page.'), ...problems('invalid_request') },
  }),
  async (c) => {
    return c.json(await c.var.services.listQueue(callerOf(c), queueRequestOf(c.req.valid('query'))), 200);
  },
);
