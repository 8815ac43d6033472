import { createRoute } from '@hono/zod-openapi';
import { AlertList } from '../../contract/schemas/observations.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';

export const listAlerts = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/alerts',
    operationId: 'listAlerts',
    tags: ['health'],
    summary: 'List alerts',
    description: 'Alerts that hold, then the latest that have cleared, 200 at most. They are settled with each collection of metrics.',
    responses: { 200: json(AlertList, 'The alerts.') },
  }),
  async (c) => c.json(await c.var.services.alerts(), 200),
);
