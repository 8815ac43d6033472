import { createRoute } from '@hono/zod-openapi';
import { AddDependency, Task } from '../../contract/schemas/task.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json, jsonBody } from '../json-content.js';
import { problems } from '../problem.js';
import { TaskParams } from '../task-params.js';

export const postTaskDependency = defineRoute(
  'write',
  createRoute({
    method: 'post',
    path: '/api/v1/tasks/{taskId}/dependencies',
    operationId: 'addTaskDependency',
    tags: ['tasks'],
    summary: 'Add a dependency',
    description: 'Lets a task that has not started wait for another one. A dependency that is there already changes nothing.',
    request: { params: TaskParams, body: jsonBody(AddDependency, 'What to wait for') },
    responses: {
      200: json(Task, 'The task with its dependencies.'),
      ...problems(
        'invalid_json',
        'task_not_found',
        'task_started',
        'dependency_cycle',
        'payload_too_large',
        'unsupported_media_type',
        'invalid_request',
        'invalid_dependency',
      ),
    },
  }),
  async (c) => {
    const { task_id: dependency, dependency_type: type } = c.req.valid('json');
    return c.json(await c.var.services.addDependency(callerOf(c), c.req.valid('param').taskId, dependency, type), 200);
  },
);
