import { createRoute, z } from '@hono/zod-openapi';
import { TaskList } from '../../contract/schemas/task.js';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { json } from '../json-content.js';
import { problems } from '../problem.js';
import { wholeNumber } from '../query-values.js';
import { filterOf, TaskFilterQuery } from '../task-filter-query.js';

const limitDefault = 50;
const limitMax = 500;

const ListQuery = z.strictObject({
  ...TaskFilterQuery,
  limit: wholeNumber(1, limitMax)
    .optional()
    .meta({ type: 'integer', minimum: 1, maximum: limitMax, default: limitDefault, description: 'Tasks on a page', example: limitDefault }),
  cursor: z.string().min(1).max(500).optional().meta({ description: '`next_cursor` of the page before, with the same filters' }),
});

export const listTasks = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/tasks',
    operationId: 'listTasks',
    tags: ['tasks'],
    summary: 'List tasks',
    description:
      'The tasks that fit all filters, newest first, page by page. Values of one filter are alternatives. Tasks that arrive meanwhile never shift the pages that follow.',
    request: { query: ListQuery },
    responses: { 200: json(TaskList, 'One page.'), ...problems('invalid_request') },
  }),
  async (c) => {
    const query = c.req.valid('query');
    const filter = filterOf(query);
    const page = await c.var.services.listTasks(callerOf(c), { filter, limit: query.limit ?? limitDefault, cursor: query.cursor ?? null });
    return c.json(page, 200);
  },
);
