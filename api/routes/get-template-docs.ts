import { createRoute, z } from '@hono/zod-openapi';
import { defineRoute } from '../define-route.js';
import { problems } from '../problem.js';
import { TemplateParams } from '../template-params.js';

export const getTemplateDocs = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/templates/{name}/docs',
    operationId: 'getTemplateDocs',
    tags: ['templates'],
    summary: 'Read the page of a template',
    description: 'What it is for, its parameters, its steps, how to submit it and what comes out, in Markdown, made from the template itself.',
    request: { params: TemplateParams },
    responses: { 200: { description: 'The page.', content: { 'text/markdown': { schema: z.string() } } }, ...problems('unknown_template') },
  }),
  (c) => c.body(c.var.services.templateDocs(c.req.valid('param').name), 200, { 'Content-Type': 'text/markdown; charset=utf-8' }) as never,
);
