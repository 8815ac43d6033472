import { createRoute } from '@hono/zod-openapi';
import { callerOf } from '../auth/authenticate.js';
import { clearSessionCookie, sessionTokenOf } from '../auth/session-cookie.js';
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
    const session = callerOf(c).sessionEndsAt === undefined ? null : sessionTokenOf(c);
    await c.var.services.signOut(session, c.var.requestId);
    clearSessionCookie(c);
    return c.body(null, 204);
  },
);
