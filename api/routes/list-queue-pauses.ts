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
    responses: { 200: json(PauseList, 'Every pause.') },
  }),
  async (c) => c.json(await c.var.services.listPauses(), 200),
);
