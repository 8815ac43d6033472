import { createRoute } from '@hono/zod-openapi';
import { ModelList } from '../../contract/schemas/model.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';

export const listModels = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/models',
    operationId: 'listModels',
    tags: ['models'],
    summary: 'List models',
    description: 'Every model that a host has, with its memory, how many steps wait for it, and when it was last used.',
    responses: { 200: json(ModelList, 'The models, loaded ones first.') },
  }),
  async (c) => c.json(await c.var.services.listModels(), 200),
);
