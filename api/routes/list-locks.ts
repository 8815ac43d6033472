import { createRoute, z } from '@hono/zod-openapi';
import { LockList } from '../../contract/schemas/holds.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { problems } from '../problem.js';
import { wholeNumber } from '../query-values.js';

const limitDefault = 100;
const limitMax = 500;

const LocksQuery = z.strictObject({
  limit: wholeNumber(1, limitMax)
    .optional()
    .meta({ type: 'integer', minimum: 1, maximum: limitMax, default: limitDefault, description: 'Locks on a page', example: limitDefault }),
  cursor: z.string().min(1).max(1_000).optional().meta({ description: '`next_cursor` of the page before' }),
});

export const listLocks = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/locks',
    operationId: 'listLocks',
    tags: ['tasks'],
    summary: 'List locks',
    description: 'The locks that tasks have, by name, and which of your tasks wait for each.',
    request: { query: LocksQuery },
    responses: { 200: json(LockList, 'One page.'), ...problems('invalid_request') },
  }),
  async (c) => {
    const { limit, cursor } = c.req.valid('query');
    return c.json(await c.var.services.listLocks(callerOf(c), { limit: limit ?? limitDefault, cursor: cursor ?? null }), 200);
  },
);
