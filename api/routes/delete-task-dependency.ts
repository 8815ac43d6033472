import { createRoute, z } from '@hono/zod-openapi';
import { Task } from '../../contract/schemas/task.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { problems } from '../problem.js';
import { TaskParams } from '../task-params.js';

const DependencyParams = TaskParams.extend({
  dependencyId: z.string().meta({ description: 'Id of the task that is waited for', example: '3f0c1f3e-5b7e-4f0e-8a43-6f3d4f1c9a10' }),
});

export const deleteTaskDependency = defineRoute(
  'write',
  createRoute({
    method: 'delete',
    path: '/api/v1/tasks/{taskId}/dependencies/{dependencyId}',
    operationId: 'removeTaskDependency',
    tags: ['tasks'],
    summary: 'Remove a dependency',
    description: 'Lets a task that has not started no longer wait for another one. A dependency that is not there changes nothing.',
    request: { params: DependencyParams },
    responses: { 200: json(Task, 'The task with the dependencies that are left.'), ...problems('task_not_found', 'task_started') },
  }),
  async (c) => {
    const { taskId, dependencyId } = c.req.valid('param');
    return c.json(await c.var.services.removeDependency(callerOf(c), taskId, dependencyId), 200);
  },
);
