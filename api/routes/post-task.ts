import { createRoute, z } from '@hono/zod-openapi';
import { CreateTask, Task } from '../../contract/schemas/task.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json, jsonBody } from '../json-content.js';
import { problems } from '../problem.js';

const IdempotencyHeader = z.object({
  'idempotency-key': z
    .string()
    .regex(/^[\x21-\x7e]{1,255}$/, { error: 'expected 1 to 255 printable characters without blanks' })
    .optional()
    .meta({
      description: 'The same key and body within 24 hours give the same task (200); the same key with another body is refused',
      example: 'nightly-2026-01-09',
    }),
});

const location = z.object({ Location: z.string().meta({ description: 'Path of the task' }) });

export const postTask = defineRoute(
  'write',
  createRoute({
    method: 'post',
    path: '/api/v1/tasks',
    operationId: 'createTask',
    tags: ['tasks'],
    summary: 'Create a task',
    description: 'Checks the template and its parameters, stores the task and queues it. Nothing is stored when anything is wrong.',
    request: { headers: IdempotencyHeader, body: jsonBody(CreateTask, 'What to run') },
    responses: {
      201: { ...json(Task, 'The task was created and is queued.'), headers: location },
      200: { ...json(Task, 'The task that this idempotency key already created.'), headers: location },
      ...problems(
        'invalid_json',
        'idempotency_conflict',
        'payload_too_large',
        'unsupported_media_type',
        'invalid_request',
        'template_not_found',
        'invalid_parameters',
        'invalid_dependency',
        'queue_full',
      ),
    },
  }),
  async (c) => {
    const { task, created } = await c.var.services.createTask(callerOf(c), c.req.valid('json'), c.req.valid('header')['idempotency-key'] ?? null);
    return c.json(task, created ? 201 : 200, { Location: `/api/v1/tasks/${task.id}` });
  },
);
