import { createRoute } from '@hono/zod-openapi';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { problems } from '../problem.js';
import { UserParams } from '../user-params.js';

export const deleteUser = defineRoute(
  'admin',
  createRoute({
    method: 'delete',
    path: '/api/v1/users/{id}',
    operationId: 'removeUser',
    tags: ['sign-in'],
    summary: 'Remove a user',
    description: 'Ends the user’s sessions. Tasks and API keys of the name stay.',
    request: { params: UserParams },
    responses: { 204: { description: 'The user is gone.' }, ...problems('unknown_user') },
  }),
  async (c) => {
    await c.var.services.removeUser(callerOf(c), c.req.valid('param').id, c.var.requestId);
    return c.body(null, 204);
  },
);
