import { createRoute } from '@hono/zod-openapi';
import { Task } from '../../contract/schemas/task.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { problems } from '../problem.js';
import { TaskParams } from '../task-params.js';

export const postTaskHold = defineRoute(
  'write',
  createRoute({
    method: 'post',
    path: '/api/v1/tasks/{taskId}/hold',
    operationId: 'holdTask',
    tags: ['tasks'],
    summary: 'Hold a task',
    description: 'Lets nothing more of a task start until it is released, also after a retry; what runs of it goes on. May be repeated. Takes no body.',
    request: { params: TaskParams },
    responses: { 200: json(Task, 'The task.'), ...problems('task_not_found', 'task_finished') },
  }),
  async (c) => c.json(await c.var.services.holdTask(callerOf(c), c.req.valid('param').taskId, true), 200),
);
