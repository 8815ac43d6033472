import { createRoute } from '@hono/zod-openapi';
import { ProblemError } from '../../contract/problems.js';
import { Readiness } from '../../contract/schemas/health.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { problems } from '../problem.js';

export const readyz = defineRoute(
  'public',
  createRoute({
    method: 'get',
    path: '/readyz',
    operationId: 'readyz',
    tags: ['health'],
    summary: 'Readiness',
    description: 'Whether tasks are accepted, which needs the database and nothing else.',
    responses: { 200: json(Readiness, 'Tasks are accepted.'), ...problems('unavailable', 'unexpected') },
  }),
  async (c) => {
    if (!(await c.var.services.ready())) throw new ProblemError('unavailable', 'The database does not answer at the moment; try again.');
    return c.json({ status: 'ok' as const }, 200);
  },
);
