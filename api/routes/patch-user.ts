import { createRoute } from '@hono/zod-openapi';
import { ChangeUser, User } from '../../contract/schemas/sign-in.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json, jsonBody } from '../json-content.js';
import { problems } from '../problem.js';
import { UserParams } from '../user-params.js';

export const patchUser = defineRoute(
  'admin',
  createRoute({
    method: 'patch',
    path: '/api/v1/users/{id}',
    operationId: 'changeUser',
    tags: ['sign-in'],
    summary: 'Change a user',
    description:
      'Sets the role, the password, or whether the user may sign in. A role holds at once for open sessions; another password and disabling end them. API keys of the name are left alone.',
    request: { params: UserParams, body: jsonBody(ChangeUser, 'What is to change') },
    responses: {
      200: json(User, 'The user as it is now.'),
      ...problems('invalid_json', 'unknown_user', 'payload_too_large', 'unsupported_media_type', 'invalid_request'),
    },
  }),
  async (c) => c.json(await c.var.services.changeUser(callerOf(c), c.req.valid('param').id, c.req.valid('json'), c.var.requestId), 200),
);
