import { createRoute } from '@hono/zod-openapi';
import { CheckpointList } from '../../contract/schemas/checkpoint.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';

export const listCheckpoints = defineRoute(
  'admin',
  createRoute({
    method: 'get',
    path: '/api/v1/checkpoints',
    operationId: 'listCheckpoints',
    tags: ['system'],
    summary: 'List checkpoints',
    description: 'Every checkpoint without what it holds, newest first.',
    responses: { 200: json(CheckpointList, 'The checkpoints.') },
  }),
  async (c) => c.json(await c.var.services.listCheckpoints(), 200),
);
