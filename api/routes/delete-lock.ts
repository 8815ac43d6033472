import { createRoute, z } from '@hono/zod-openapi';
import { LockReleased } from '../../contract/schemas/holds.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { LockParams } from '../lock-params.js';
import { problems } from '../problem.js';

const HeldLockParams = LockParams.extend({
  taskId: z.string().meta({ description: 'Id of the task that has it', example: '8f14e45f-ceea-467f-a0e6-7c1f9d2b3a44' }),
});

export const deleteLock = defineRoute(
  'write',
  createRoute({
    method: 'delete',
    path: '/api/v1/locks/{name}/{taskId}',
    operationId: 'releaseLock',
    tags: ['tasks'],
    summary: 'Give a lock back',
    description: 'Only the task that has a lock gives it back, and only one that it took while it ran; it waits for it no longer either.',
    request: { params: HeldLockParams },
    responses: { 200: json(LockReleased, 'Whether the task gave it back.'), ...problems('task_not_found', 'invalid_request') },
  }),
  async (c) => {
    const { name, taskId } = c.req.valid('param');
    return c.json(await c.var.services.releaseLock(callerOf(c), name, taskId), 200);
  },
);
