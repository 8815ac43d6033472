import { createRoute, z } from '@hono/zod-openapi';
import { CreateTask, Task } from '../../contract/schemas/task.js';
import { TaskPreview } from '../../contract/schemas/task-preview.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json, jsonBody } from '../json-content.js';
import { problems } from '../problem.js';

export const IdempotencyHeader = z.object({
  'idempotency-key': z
    .string()
    .regex(/^[\x21-\x7e]{1,255}$/, { error: 'expected 1 to 255 printable characters without blanks' })
    .optional()
    .meta({
      description: 'The same key and body within 24 hours give the same task (200); the same key with another body is refused',
      example: 'nightly-2026-01-09',
    }),
});

export const taskLocation = z.object({ Location: z.string().meta({ description: 'Path of the task' }) });

const DryRun = z.strictObject({
  dry_run: z
    .enum(['true', 'false'])
    .transform((text) => text === 'true')
    .optional()
    .meta({ type: 'boolean', description: 'Only show what would run', example: false }),
});

/** What a request that creates a task may be refused with. */
export const creationProblems = [
  'invalid_json',
  'idempotency_conflict',
  'payload_too_large',
  'unsupported_media_type',
  'invalid_request',
  'template_not_found',
  'invalid_parameters',
  'resources_exceeded',
  'invalid_dependency',
  'queue_full',
] as const;

export const postTask = defineRoute(
  'write',
  createRoute({
    method: 'post',
    path: '/api/v1/tasks',
    operationId: 'createTask',
    tags: ['tasks'],
    summary: 'Create a task',
    description:
      'Checks the template and its parameters, stores the task and queues it. Nothing is stored when anything is wrong. With `dry_run=true` nothing is stored at all: the answer shows the rendered steps, the models, what they are expected to take, and when the task would start if it came now; an idempotency key is left alone.',
    request: { headers: IdempotencyHeader, query: DryRun, body: jsonBody(CreateTask, 'What to run') },
    responses: {
      201: { ...json(Task, 'The task was created and is queued.'), headers: taskLocation },
      200: {
        ...json(z.union([Task, TaskPreview]), 'The task that this idempotency key already created; with `dry_run` what the task would run.'),
        headers: taskLocation.partial(),
      },
      ...problems(...creationProblems),
    },
  }),
  async (c) => {
    if (c.req.valid('query').dry_run) return c.json(await c.var.services.previewTask(callerOf(c), c.req.valid('json')), 200);
    const { task, created } = await c.var.services.createTask(callerOf(c), c.req.valid('json'), c.req.valid('header')['idempotency-key'] ?? null);
    return c.json(task, created ? 201 : 200, { Location: `/api/v1/tasks/${task.id}` });
  },
);
