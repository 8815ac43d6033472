import { createRoute } from '@hono/zod-openapi';
import { TemplateVerdict, ValidateTemplate } from '../../contract/schemas/template-view.js';
import { defineRoute } from '../define-route.js';
import { json, jsonBody } from '../json-content.js';
import { problems } from '../problem.js';

export const postTemplateValidate = defineRoute(
  'read',
  createRoute({
    method: 'post',
    path: '/api/v1/templates/validate',
    operationId: 'validateTemplate',
    tags: ['templates'],
    summary: 'Check a template',
    description: 'Tells everything that is wrong with a template, each fault with its line and column. Nothing is stored, rendered or run.',
    request: { body: jsonBody(ValidateTemplate, 'The template') },
    responses: {
      200: json(TemplateVerdict, 'What is wrong, or what it is.'),
      ...problems('invalid_json', 'payload_too_large', 'unsupported_media_type', 'invalid_request'),
    },
  }),
  async (c) => {
    const { yaml, file_name: fileName } = c.req.valid('json');
    return c.json(await c.var.services.validateTemplate(yaml, fileName), 200);
  },
);
