import { createRoute } from '@hono/zod-openapi';
import { CurrentCaller } from '../../contract/schemas/sign-in.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';

export const getSession = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/sessions/current',
    operationId: 'getCurrentCaller',
    tags: ['sign-in'],
    summary: 'Who asks',
    description: 'Who the request came from, with what, and until when that holds.',
    responses: { 200: json(CurrentCaller, 'The caller.') },
  }),
  async (c) => c.json(await c.var.services.currentCaller(callerOf(c)), 200),
);
