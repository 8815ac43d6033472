import { createRoute } from '@hono/zod-openapi';
import { PauseList, PauseTarget } from '../../contract/schemas/queue.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { problems } from '../problem.js';

export const deleteQueuePause = defineRoute(
  'admin',
  createRoute({
    method: 'delete',
    path: '/api/v1/queue/pauses',
    operationId: 'resumeQueue',
    tags: ['queue'],
    summary: 'Resume the queue, a host or a model',
    description: 'Ends one pause: that of the whole queue, unless a host or a model is named. May be repeated.',
    request: { query: PauseTarget },
    responses: { 200: json(PauseList, 'Everything that is still paused.'), ...problems('invalid_request', 'model_refused') },
  }),
  async (c) => c.json(await c.var.services.resumeQueue(callerOf(c), c.req.valid('query')), 200),
);
