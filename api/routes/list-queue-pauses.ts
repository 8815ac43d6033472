import { createRoute } from '@hono/zod-openapi';
import { PauseList } from '../../contract/schemas/queue.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';

export const listQueuePauses = defineRoute(
  'admin',
  createRoute({
    method: 'get',
    path: '/api/v1/queue/pauses',
    operationId: 'listPauses',
    tags: ['queue'],
    summary: 'List what is paused',
    description:
      'The whole queue, models and hosts that were paused, with who did it, when and why. Steps that run go on; those that wait are not started until the pause is lifted.',
    responses: { 200: json(PauseList, 'Every pause.') },
  }),
  async (c) => c.json(await c.var.services.listPauses(), 200),
);
