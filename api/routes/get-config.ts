import { createRoute } from '@hono/zod-openapi';
import { Configuration } from '../../contract/schemas/configuration.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';

export const getConfig = defineRoute(
  'admin',
  createRoute({
    method: 'get',
    path: '/api/v1/config',
    operationId: 'getConfig',
    tags: ['system'],
    summary: 'Read the configuration',
    description:
      'Every key with the value that is in force in the process that answers, and who has set it. Secrets, and passwords within addresses, are hidden.',
    responses: { 200: json(Configuration, 'The configuration.') },
  }),
  (c) => c.json(c.var.services.configuration(), 200),
);
