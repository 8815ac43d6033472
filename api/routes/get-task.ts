import { createRoute } from '@hono/zod-openapi';
import { Task } from '../../contract/schemas/task.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { problems } from '../problem.js';
import { TaskParams } from '../task-params.js';

export const getTask = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/tasks/{taskId}',
    operationId: 'getTask',
    tags: ['tasks'],
    summary: 'Read a task',
    description: 'Status, place in the queue, result and error of one task. A task of another user is answered like one that does not exist.',
    request: { params: TaskParams },
    responses: { 200: json(Task, 'The task.'), ...problems('task_not_found') },
  }),
  async (c) => c.json(await c.var.services.getTask(callerOf(c), c.req.valid('param').taskId), 200),
);
