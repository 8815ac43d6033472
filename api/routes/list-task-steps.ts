import { createRoute } from '@hono/zod-openapi';
import { TaskSteps } from '../../contract/schemas/task-steps.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { problems } from '../problem.js';
import { TaskParams } from '../task-params.js';

export const listTaskSteps = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/tasks/{taskId}/steps',
    operationId: 'listTaskSteps',
    tags: ['tasks'],
    summary: 'List the steps of a task',
    description:
      'The steps of the task’s plan: what each was to do and with which input, where it stands, what it gave, and each time that it stood in the line, with what it waited for. Secrets are left out.',
    request: { params: TaskParams },
    responses: { 200: json(TaskSteps, 'The steps.'), ...problems('task_not_found') },
  }),
  async (c) => c.json(await c.var.services.listSteps(callerOf(c), c.req.valid('param').taskId), 200),
);
