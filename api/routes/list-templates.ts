import { createRoute } from '@hono/zod-openapi';
import { TemplateList } from '../../contract/schemas/template-view.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';

export const listTemplates = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/templates',
    operationId: 'listTemplates',
    tags: ['templates'],
    summary: 'List templates',
    description:
      'Every template by name: the built-in ones, those of the community, and those of this installation. A changed file is read again by itself; a broken one is told here and leaves the others usable.',
    responses: { 200: json(TemplateList, 'The templates.') },
  }),
  (c) => c.json(c.var.services.listTemplates(), 200),
);
