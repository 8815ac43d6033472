import { createRoute } from '@hono/zod-openapi';
import { Task } from '../../contract/schemas/task.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { problems } from '../problem.js';
import { TaskParams } from '../task-params.js';

export const deleteTask = defineRoute(
  'write',
  createRoute({
    method: 'delete',
    path: '/api/v1/tasks/{taskId}',
    operationId: 'cancelTask',
    tags: ['tasks'],
    summary: 'Cancel a task',
    description:
      'A queued task never starts. A running one is stopped; it may still end `completed` when its last step was done first. A cancelled task stays as it is.',
    request: { params: TaskParams },
    responses: { 200: json(Task, 'It is cancelled.'), 202: json(Task, 'It is being stopped.'), ...problems('task_not_found', 'task_finished') },
  }),
  async (c) => {
    const { task, stopped } = await c.var.services.cancelTask(callerOf(c), c.req.valid('param').taskId);
    return c.json(task, stopped ? 200 : 202);
  },
);
