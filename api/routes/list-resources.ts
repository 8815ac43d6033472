import { createRoute } from '@hono/zod-openapi';
import { ResourceList } from '../../contract/schemas/holds.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';

export const listResources = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/resources',
    operationId: 'listResources',
    tags: ['tasks'],
    summary: 'List resource pools',
    description: 'What there is of each pool, what tasks hold of it, and what is in use on the machines.',
    responses: { 200: json(ResourceList, 'The pools, by name.') },
  }),
  async (c) => c.json(await c.var.services.listResources(callerOf(c)), 200),
);
