import { createRoute } from '@hono/zod-openapi';
import { ChangePassword } from '../../contract/schemas/sign-in.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { jsonBody } from '../json-content.js';
import { problems } from '../problem.js';

export const patchOwnPassword = defineRoute(
  'read',
  createRoute({
    method: 'patch',
    path: '/api/v1/users/me/password',
    operationId: 'changeOwnPassword',
    tags: ['sign-in'],
    summary: 'Change one’s own password',
    description: 'Needs the present one. Other sessions of the user end.',
    request: { body: jsonBody(ChangePassword, 'The present password and the new one') },
    responses: {
      204: { description: 'The new password holds.' },
      ...problems('invalid_json', 'unknown_user', 'payload_too_large', 'unsupported_media_type', 'invalid_request'),
    },
  }),
  async (c) => {
    await c.var.services.changeOwnPassword(callerOf(c), c.req.valid('json'), c.var.requestId);
    return c.body(null, 204);
  },
);
