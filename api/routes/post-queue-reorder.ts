import { createRoute } from '@hono/zod-openapi';
import { QueueMove } from '../../contract/schemas/queue.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { problems } from '../problem.js';
import { reorderRefusals, reorderRequest } from '../reorder.js';

export const postQueueReorder = defineRoute(
  'write',
  createRoute({
    method: 'post',
    path: '/api/v1/queue/reorder',
    operationId: 'reorderQueue',
    tags: ['queue'],
    summary: 'Move a task in the queue',
    description:
      'Places a task directly before or behind another one that waits. It takes that one’s exact priority and counts as waiting as long as that one, so that both stay together. Users move their own tasks beside their own; administrators move every task.',
    request: reorderRequest,
    responses: {
      200: json(QueueMove, 'The task at its new place.'),
      ...problems(...reorderRefusals),
    },
  }),
  async (c) => c.json(await c.var.services.moveTask(callerOf(c), c.req.valid('json')), 200),
);
