import { createRoute } from '@hono/zod-openapi';
import { AcquireLock, LockAnswer } from '../../contract/schemas/holds.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json, jsonBody } from '../json-content.js';
import { LockParams } from '../lock-params.js';
import { problems } from '../problem.js';

export const postLock = defineRoute(
  'write',
  createRoute({
    method: 'post',
    path: '/api/v1/locks/{name}',
    operationId: 'acquireLock',
    tags: ['tasks'],
    summary: 'Take a lock',
    description:
      'Lets a running task take a lock when it is free, and says at once whether it has it. Locks that a task needs from its start belong into its `resource_requirements`. Of tasks that wait for each other’s locks for ever, the one of lowest priority gives way: it is queued again.',
    request: { params: LockParams, body: jsonBody(AcquireLock, 'Who takes it') },
    responses: {
      200: json(LockAnswer, 'Whether the task has it now.'),
      ...problems('invalid_json', 'task_not_found', 'task_not_running', 'too_many_locks', 'payload_too_large', 'unsupported_media_type', 'invalid_request'),
    },
  }),
  async (c) => {
    const { task_id: taskId, wait } = c.req.valid('json');
    return c.json(await c.var.services.acquireLock(callerOf(c), c.req.valid('param').name, taskId, wait), 200);
  },
);
