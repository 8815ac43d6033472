import { createRoute } from '@hono/zod-openapi';
import { PriorityChange, Task } from '../../contract/schemas/task.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json, jsonBody } from '../json-content.js';
import { problems } from '../problem.js';
import { TaskParams } from '../task-params.js';

export const patchTaskPriority = defineRoute(
  'write',
  createRoute({
    method: 'patch',
    path: '/api/v1/tasks/{taskId}/priority',
    operationId: 'setTaskPriority',
    tags: ['tasks'],
    summary: 'Change the priority of a task',
    description: 'Takes effect on the steps that have not started. Of changes made at the same time the last one holds.',
    request: { params: TaskParams, body: jsonBody(PriorityChange, 'The new priority') },
    responses: {
      200: json(Task, 'The task with its new priority.'),
      ...problems('invalid_json', 'task_not_found', 'task_finished', 'payload_too_large', 'unsupported_media_type', 'invalid_request'),
    },
  }),
  async (c) => c.json(await c.var.services.setPriority(callerOf(c), c.req.valid('param').taskId, c.req.valid('json').priority), 200),
);
