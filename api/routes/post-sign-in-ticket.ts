import { createRoute } from '@hono/zod-openapi';
import { SignInTicket } from '../../contract/schemas/sign-in.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';

export const postSignInTicket = defineRoute(
  'read',
  createRoute({
    method: 'post',
    path: '/api/v1/sign-in-tickets',
    operationId: 'createSignInTicket',
    tags: ['sign-in'],
    summary: 'Make a sign-in ticket',
    description:
      'A text that opens one session with the rights of the API key that the request came with, so that the key itself need not be typed into a browser. Valid once and for 10 minutes. Only API keys make one.',
    responses: { 201: json(SignInTicket, 'The ticket, shown this once.') },
  }),
  async (c) => c.json(await c.var.services.createTicket(callerOf(c), { requestId: c.var.requestId }), 201),
);
