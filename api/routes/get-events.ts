import { createRoute } from '@hono/zod-openapi';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { EventQuery, eventResponses, LastEventId, limitOf } from '../event-query.js';
import { answerEvents, wantsJson } from '../event-stream.js';
import { problems } from '../problem.js';

export const getEvents = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/events',
    operationId: 'streamEvents',
    tags: ['events'],
    summary: 'Follow all tasks',
    description: 'What happens to your tasks from now on, or from behind `Last-Event-ID`; administrators see the tasks of everybody. Does not end by itself.',
    request: { headers: LastEventId, query: EventQuery },
    responses: { ...eventResponses, ...problems('invalid_request', 'too_many_streams') },
  }),
  async (c) => {
    const { events } = c.var.services;
    const caller = callerOf(c);
    const query = c.req.valid('query');
    const filter = { taskIds: query.task_id, kinds: query.kind };
    if (wantsJson(c)) return c.json(await events.listEvents(caller, { taskId: null, ...filter, after: query.after ?? null, limit: limitOf(query) }), 200);
    return answerEvents(c, await events.streamEvents(caller, filter, c.req.valid('header')['last-event-id'] ?? query.after ?? null)) as never;
  },
);
