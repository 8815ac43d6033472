import { createRoute } from '@hono/zod-openapi';
import { Liveness } from '../../contract/schemas/health.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';

export const healthz = defineRoute(
  'public',
  createRoute({
    method: 'get',
    path: '/healthz',
    operationId: 'healthz',
    tags: ['health'],
    summary: 'Liveness',
    description: 'Answers whenever this process does.',
    responses: { 200: json(Liveness, 'This process answers.') },
  }),
  (c) => c.json({ status: 'ok' as const }, 200),
);
