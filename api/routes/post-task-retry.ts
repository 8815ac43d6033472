import { createRoute } from '@hono/zod-openapi';
import { Task } from '../../contract/schemas/task.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { problems } from '../problem.js';
import { TaskParams } from '../task-params.js';

export const postTaskRetry = defineRoute(
  'write',
  createRoute({
    method: 'post',
    path: '/api/v1/tasks/{taskId}/retry',
    operationId: 'retryTask',
    tags: ['tasks'],
    summary: 'Retry a task',
    description: 'Queues a failed or cancelled task again under the same id, as its next attempt, which unblocks the tasks that depend on it. Takes no body.',
    request: { params: TaskParams },
    responses: { 200: json(Task, 'The task, queued again.'), ...problems('task_not_found', 'task_not_retryable') },
  }),
  async (c) => c.json(await c.var.services.retryTask(callerOf(c), c.req.valid('param').taskId), 200),
);
