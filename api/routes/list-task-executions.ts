import { createRoute } from '@hono/zod-openapi';
import { ExecutionList } from '../../contract/schemas/execution.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { problems } from '../problem.js';
import { TaskParams } from '../task-params.js';

export const listTaskExecutions = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/tasks/{taskId}/executions',
    operationId: 'listTaskExecutions',
    tags: ['tasks'],
    summary: 'List the executions of a task',
    description: 'Every try of a step that ran, of all attempts of the task, oldest first: when, where, how it ended, what it used and printed.',
    request: { params: TaskParams },
    responses: { 200: json(ExecutionList, 'The executions.'), ...problems('task_not_found') },
  }),
  async (c) => c.json(await c.var.services.listExecutions(callerOf(c), c.req.valid('param').taskId), 200),
);
