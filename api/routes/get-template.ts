import { createRoute } from '@hono/zod-openapi';
import { TemplateDetail } from '../../contract/schemas/template-view.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { problems } from '../problem.js';
import { TemplateParams } from '../template-params.js';

export const getTemplate = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/templates/{name}',
    operationId: 'getTemplate',
    tags: ['templates'],
    summary: 'Read a template',
    description: 'Its parameters as declarations, as JSON Schema and as the fields of a form, its steps, an example request, and its file.',
    request: { params: TemplateParams },
    responses: { 200: json(TemplateDetail, 'The template.'), ...problems('unknown_template') },
  }),
  (c) => c.json(c.var.services.getTemplate(c.req.valid('param').name), 200),
);
