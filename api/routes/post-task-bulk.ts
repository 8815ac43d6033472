import { createRoute } from '@hono/zod-openapi';
import { BulkRequest, BulkResult } from '../../contract/schemas/many.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json, jsonBody } from '../json-content.js';
import { problems } from '../problem.js';

export const postTaskBulk = defineRoute(
  'write',
  createRoute({
    method: 'post',
    path: '/api/v1/tasks/bulk',
    operationId: 'changeTasks',
    tags: ['tasks'],
    summary: 'Cancel, retry or prioritise many tasks',
    description:
      'Does one thing to many tasks, named by ids or by a filter, and tells for each what became of it. With `dry_run` nothing is done: the answer counts what would be asked. A filter that fits more than `limit` tasks is worked off in several requests; `remaining` tells how many are left.',
    request: { body: jsonBody(BulkRequest, 'What to do to which tasks') },
    responses: { 200: json(BulkResult, 'What became of each.'), ...problems('invalid_json', 'payload_too_large', 'unsupported_media_type', 'invalid_request') },
  }),
  async (c) => c.json(await c.var.services.bulkTasks(callerOf(c), c.req.valid('json')), 200),
);
