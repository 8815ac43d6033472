import { createRoute, z } from '@hono/zod-openapi';
import { ModelOrder } from '../../contract/schemas/model.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { problems } from '../problem.js';

export const getModelOrder = defineRoute(
  'admin',
  createRoute({
    method: 'get',
    path: '/api/v1/model-orders/{orderId}',
    operationId: 'getModelOrder',
    tags: ['models'],
    summary: 'Read an order of a model',
    description: 'How far a load, an unload or a pull is, and why it failed.',
    request: { params: z.object({ orderId: z.string().meta({ description: 'Id of an order', example: '5d3f0f7e-4b0a-4c8a-9c2a-0b8d3a1e7f10' }) }) },
    responses: { 200: json(ModelOrder, 'The order.'), ...problems('not_found') },
  }),
  async (c) => c.json(await c.var.services.getModelOrder(c.req.valid('param').orderId), 200),
);
