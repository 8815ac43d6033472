import { createRoute } from '@hono/zod-openapi';
import { BatchResult, CreateBatch } from '../../contract/schemas/many.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json, jsonBody } from '../json-content.js';
import { invalidRequest, problems } from '../problem.js';

export const postTaskBatch = defineRoute(
  'write',
  createRoute({
    method: 'post',
    path: '/api/v1/tasks/batch',
    operationId: 'createTasks',
    tags: ['tasks'],
    summary: 'Create many tasks',
    description:
      'Creates up to 1,000 tasks in one transaction. Each item is checked as a single request and told what became of it; a refused one harms no other, except those that wait for it. An item may have a `ref`, and `depends_on` of others may hold `#<ref>`. With an `idempotency_key` for every item a repeat of the whole batch creates nothing twice.',
    request: { body: jsonBody(CreateBatch, 'The tasks') },
    responses: {
      200: json(BatchResult, 'What became of each.'),
      ...problems('invalid_json', 'dependency_cycle', 'payload_too_large', 'unsupported_media_type', 'invalid_request'),
    },
  }),
  async (c) => {
    const { tasks } = c.req.valid('json');
    return c.json(await c.var.services.createBatch(callerOf(c), tasks, (issues, data) => invalidRequest('json', issues, data)), 200);
  },
);
