import { createRoute, z } from '@hono/zod-openapi';
import { Checkpoint, CreateCheckpoint } from '../../contract/schemas/checkpoint.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json, jsonBody } from '../json-content.js';
import { problems } from '../problem.js';

export const postCheckpoint = defineRoute(
  'admin',
  createRoute({
    method: 'post',
    path: '/api/v1/checkpoints',
    operationId: 'createCheckpoint',
    tags: ['system'],
    summary: 'Write a checkpoint',
    description: 'Keeps which tasks are queued in which order, what they wait for, the locks that are held, and the text of every template, all of one moment.',
    request: { body: jsonBody(CreateCheckpoint, 'Its name, or `{}`') },
    responses: {
      201: { ...json(Checkpoint, 'It is written.'), headers: z.object({ Location: z.string().meta({ description: 'Path of the checkpoint' }) }) },
      ...problems('invalid_json', 'payload_too_large', 'unsupported_media_type', 'invalid_request'),
    },
  }),
  async (c) => {
    const checkpoint = await c.var.services.createCheckpoint(callerOf(c), c.req.valid('json'));
    return c.json(checkpoint, 201, { Location: `/api/v1/checkpoints/${checkpoint.id}` });
  },
);
