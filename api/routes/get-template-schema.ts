import { createRoute } from '@hono/zod-openapi';
import { JsonObjectSchema } from '../../contract/schemas/json-value.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';

export const getTemplateSchema = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/template-schema',
    operationId: 'getTemplateSchema',
    tags: ['templates'],
    summary: 'Read the schema of templates',
    description: 'JSON Schema of the file of a template with all step types, for editors that complete and check while one writes.',
    responses: { 200: json(JsonObjectSchema, 'The schema.') },
  }),
  (c) => c.json(c.var.services.templateSchema(), 200),
);
