import { createRoute } from '@hono/zod-openapi';
import { UserList } from '../../contract/schemas/sign-in.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';

export const listUsers = defineRoute(
  'admin',
  createRoute({
    method: 'get',
    path: '/api/v1/users',
    operationId: 'listUsers',
    tags: ['sign-in'],
    summary: 'List users',
    description: 'Everybody who signs in with a password, by name.',
    responses: { 200: json(UserList, 'The users.') },
  }),
  async (c) => c.json(await c.var.services.listUsers(), 200),
);
