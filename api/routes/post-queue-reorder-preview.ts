import { createRoute } from '@hono/zod-openapi';
import { QueueMovePreview } from '../../contract/schemas/queue.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { problems } from '../problem.js';
import { reorderRefusals, reorderRequest } from '../reorder.js';

export const postQueueReorderPreview = defineRoute(
  'write',
  createRoute({
    method: 'post',
    path: '/api/v1/queue/reorder/preview',
    operationId: 'previewReorder',
    tags: ['queue'],
    summary: 'See what a move would do',
    description:
      'Forecasts the queue as it is and as it would be after this move, and tells whose predicted start would change. Nothing is moved; what would refuse the move refuses its preview. Previews are made one at a time; of those of one user that wait only the latest is made.',
    request: reorderRequest,
    responses: {
      200: json(QueueMovePreview, 'Whose start would change.'),
      ...problems(...reorderRefusals, 'superseded'),
    },
  }),
  async (c) => c.json(await c.var.services.previewMove(callerOf(c), c.req.valid('json')), 200),
);
