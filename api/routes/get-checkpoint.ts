import { createRoute } from '@hono/zod-openapi';
import { CheckpointDetail } from '../../contract/schemas/checkpoint.js';
import { CheckpointParams } from '../checkpoint-params.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { problems } from '../problem.js';

export const getCheckpoint = defineRoute(
  'admin',
  createRoute({
    method: 'get',
    path: '/api/v1/checkpoints/{checkpointId}',
    operationId: 'getCheckpoint',
    tags: ['system'],
    summary: 'Read a checkpoint',
    description: 'A checkpoint with the queue, the locks and the templates that it holds.',
    request: { params: CheckpointParams },
    responses: { 200: json(CheckpointDetail, 'The checkpoint.'), ...problems('unknown_checkpoint') },
  }),
  async (c) => c.json(await c.var.services.getCheckpoint(c.req.valid('param').checkpointId), 200),
);
