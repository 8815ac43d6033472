import { createRoute } from '@hono/zod-openapi';
import { PauseList, PauseQueue } from '../../contract/schemas/queue.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json, jsonBody } from '../json-content.js';
import { problems } from '../problem.js';

export const postQueuePause = defineRoute(
  'admin',
  createRoute({
    method: 'post',
    path: '/api/v1/queue/pauses',
    operationId: 'pauseQueue',
    tags: ['queue'],
    summary: 'Pause the queue, a host or a model',
    description:
      'Nothing new starts there until it is resumed, also after a restart; what runs goes on. May be repeated; a reason that is given replaces the one before.',
    request: { body: jsonBody(PauseQueue, 'What is paused, and why') },
    responses: {
      200: json(PauseList, 'Everything that is paused now.'),
      ...problems('invalid_json', 'unknown_host', 'payload_too_large', 'unsupported_media_type', 'invalid_request', 'model_refused'),
    },
  }),
  async (c) => c.json(await c.var.services.pauseQueue(callerOf(c), c.req.valid('json')), 200),
);
