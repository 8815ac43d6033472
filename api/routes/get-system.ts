import { createRoute } from '@hono/zod-openapi';
import { SystemReport } from '../../contract/schemas/observations.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';

export const getSystem = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/system',
    operationId: 'getSystem',
    tags: ['health'],
    summary: 'See how the parts are',
    description: 'Health checks, versions, engines and hosts with their leases, counts, broken templates, alerts, and what keeps work waiting.',
    responses: { 200: json(SystemReport, 'The parts, checked now.') },
  }),
  async (c) => c.json(await c.var.services.systemReport(), 200),
);
