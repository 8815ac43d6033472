import { createRoute } from '@hono/zod-openapi';
import { RestoredCheckpoint } from '../../contract/schemas/checkpoint.js';
import { CheckpointParams } from '../checkpoint-params.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { problems } from '../problem.js';

export const postCheckpointRestore = defineRoute(
  'admin',
  createRoute({
    method: 'post',
    path: '/api/v1/checkpoints/{checkpointId}/restore',
    operationId: 'restoreCheckpoint',
    tags: ['system'],
    summary: 'Restore a checkpoint',
    description:
      'Gives its tasks the place, priority and dependencies that they had, and queues those again that failed or were cancelled since. What runs or has completed goes on, tasks that came later stay, templates are compared and not written. Takes no body; may be repeated.',
    request: { params: CheckpointParams },
    responses: { 200: json(RestoredCheckpoint, 'What was done, task by task.'), ...problems('unknown_checkpoint') },
  }),
  async (c) => c.json(await c.var.services.restoreCheckpoint(c.req.valid('param').checkpointId), 200),
);
