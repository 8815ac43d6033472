import { createRoute } from '@hono/zod-openapi';
import { QueueMovePreview, ReorderQueue } from '../../contract/schemas/queue.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json, jsonBody } from '../json-content.js';
import { problems } from '../problem.js';

export const postQueueReorderPreview = defineRoute(
  'write',
  createRoute({
    method: 'post',
    path: '/api/v1/queue/reorder/preview',
    operationId: 'previewReorder',
    tags: ['queue'],
    summary: 'See what a move would do',
    description:
      'Forecasts the queue as it is and as it would be after this move, and tells whose predicted start would change. Nothing is moved; what would refuse the move refuses its preview.',
    request: { body: jsonBody(ReorderQueue, 'Where the task is to stand') },
    responses: {
      200: json(QueueMovePreview, 'Whose start would change.'),
      ...problems(
        'invalid_json',
        'task_not_found',
        'task_started',
        'neighbour_gone',
        'queue_changed',
        'overtakes_others',
        'task_finished',
        'payload_too_large',
        'unsupported_media_type',
        'invalid_request',
      ),
    },
  }),
  async (c) => c.json(await c.var.services.previewMove(callerOf(c), c.req.valid('json')), 200),
);
