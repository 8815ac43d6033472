import { createRoute } from '@hono/zod-openapi';
import { TaskRelations } from '../../contract/schemas/task-relations.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { problems } from '../problem.js';
import { TaskParams } from '../task-params.js';

export const listTaskRelations = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/tasks/{taskId}/relations',
    operationId: 'listTaskRelations',
    tags: ['tasks'],
    summary: 'List the tasks that a task has to do with',
    description:
      'Tasks that it waits for, tasks that wait for it, the task whose input it repeats and those that repeat its own, each with its name and status.',
    request: { params: TaskParams },
    responses: { 200: json(TaskRelations, 'The tasks.'), ...problems('task_not_found') },
  }),
  async (c) => c.json(await c.var.services.listRelations(callerOf(c), c.req.valid('param').taskId), 200),
);
