import { createRoute } from '@hono/zod-openapi';
import { Health } from '../../contract/schemas/health.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';

export const getHealth = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/health',
    operationId: 'getHealth',
    tags: ['health'],
    summary: 'Check all parts',
    description: 'Each part is checked now, and fails alone. Answers 200 however the parts are; probes use /readyz.',
    responses: { 200: json(Health, 'How each part is.') },
  }),
  async (c) => c.json(await c.var.services.health(), 200),
);
