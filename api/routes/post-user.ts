import { createRoute } from '@hono/zod-openapi';
import { CreateUser, User } from '../../contract/schemas/sign-in.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json, jsonBody } from '../json-content.js';
import { problems } from '../problem.js';

export const postUser = defineRoute(
  'admin',
  createRoute({
    method: 'post',
    path: '/api/v1/users',
    operationId: 'createUser',
    tags: ['sign-in'],
    summary: 'Add a user',
    description: 'Somebody who signs in with a password. Tasks of API keys with this user name are the same owner’s.',
    request: { body: jsonBody(CreateUser, 'The user') },
    responses: {
      201: json(User, 'The user is there.'),
      ...problems('invalid_json', 'user_exists', 'payload_too_large', 'unsupported_media_type', 'invalid_request'),
    },
  }),
  async (c) => c.json(await c.var.services.createUser(callerOf(c), c.req.valid('json'), c.var.requestId), 201),
);
