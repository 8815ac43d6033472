import { createRoute } from '@hono/zod-openapi';
import { Task } from '../../contract/schemas/task.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { problems } from '../problem.js';
import { TaskParams } from '../task-params.js';

export const postTaskRelease = defineRoute(
  'write',
  createRoute({
    method: 'post',
    path: '/api/v1/tasks/{taskId}/release',
    operationId: 'releaseTask',
    tags: ['tasks'],
    summary: 'Release a task',
    description: 'Lets a held task go on, at the place where it stands. May be repeated. Takes no body.',
    request: { params: TaskParams },
    responses: { 200: json(Task, 'The task.'), ...problems('task_not_found', 'task_finished') },
  }),
  async (c) => c.json(await c.var.services.holdTask(callerOf(c), c.req.valid('param').taskId, false), 200),
);
