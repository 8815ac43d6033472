import { createRoute } from '@hono/zod-openapi';
import { callerOf } from '../auth/authenticate.js';
import { signOut } from '../auth/sign-in.js';
import { defineRoute } from '../define-route.js';

export const deleteSession = defineRoute(
  'read',
  createRoute({
    method: 'delete',
    path: '/api/v1/sessions/current',
    operationId: 'signOut',
    tags: ['sign-in'],
    summary: 'Sign out',
    description: 'Ends the session that the request came with, and takes its cookie away. Other sessions of the user stay.',
    responses: { 204: { description: 'Signed out.' } },
  }),
  async (c) => {
    // Of a caller who came with something else nobody has asked whether a page of ours sent the cookie.
    await signOut(c, callerOf(c).sessionEndsAt === undefined ? [] : undefined);
    return c.body(null, 204);
  },
);
