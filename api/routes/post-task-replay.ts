import { createRoute } from '@hono/zod-openapi';
import { ReplayTask, Task } from '../../contract/schemas/task.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json, jsonBody } from '../json-content.js';
import { problems } from '../problem.js';
import { TaskParams } from '../task-params.js';
import { creationProblems, IdempotencyHeader, taskLocation } from './post-task.js';

export const postTaskReplay = defineRoute(
  'write',
  createRoute({
    method: 'post',
    path: '/api/v1/tasks/{taskId}/replay',
    operationId: 'replayTask',
    tags: ['tasks'],
    summary: 'Replay a task',
    description:
      'Submits the input of a task again, with changes, as a new task under the newest version of its template. The new task names the one it replays and the first of the chain. To run the same input again under the same id, retry it.',
    request: { params: TaskParams, headers: IdempotencyHeader, body: jsonBody(ReplayTask, 'What is to be different, or `{}`') },
    responses: {
      201: { ...json(Task, 'The new task.'), headers: taskLocation },
      200: { ...json(Task, 'The task that this idempotency key already created.'), headers: taskLocation },
      ...problems('task_not_found', ...creationProblems),
    },
  }),
  async (c) => {
    const key = c.req.valid('header')['idempotency-key'] ?? null;
    const { task, created } = await c.var.services.replayTask(callerOf(c), c.req.valid('param').taskId, c.req.valid('json'), key);
    return c.json(task, created ? 201 : 200, { Location: `/api/v1/tasks/${task.id}` });
  },
);
