import { createRoute } from '@hono/zod-openapi';
import { LockList } from '../../contract/schemas/holds.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';

export const listLocks = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/locks',
    operationId: 'listLocks',
    tags: ['tasks'],
    summary: 'List locks',
    description: 'Every lock that a task has, and which of your tasks wait for it.',
    responses: { 200: json(LockList, 'The locks, by name.') },
  }),
  async (c) => c.json(await c.var.services.listLocks(callerOf(c)), 200),
);
