import { createRoute } from '@hono/zod-openapi';
import { callerOf } from '../auth/authenticate.js';
import { defineRoute } from '../define-route.js';
import { eventResponses, LastEventId, limitOf, TaskEventQuery } from '../event-query.js';
import { answerEvents, wantsJson } from '../event-stream.js';
import { problems } from '../problem.js';
import { TaskParams } from '../task-params.js';

export const getTaskEvents = defineRoute(
  'read',
  createRoute({
    method: 'get',
    path: '/api/v1/tasks/{taskId}/events',
    operationId: 'streamTaskEvents',
    tags: ['events'],
    summary: 'Follow a task',
    description:
      'Everything that happened to the task and then everything that happens: its status, its steps, what they print and what a model writes. Ends when the task has ended; whoever connects again with `Last-Event-ID` after that gets 204, so that a browser stops.',
    request: { params: TaskParams, headers: LastEventId, query: TaskEventQuery },
    responses: {
      ...eventResponses,
      204: { description: 'The task has ended and there is nothing after this id.' },
      ...problems('task_not_found', 'invalid_request', 'too_many_streams'),
    },
  }),
  async (c) => {
    const { events } = c.var.services;
    const caller = callerOf(c);
    const { taskId } = c.req.valid('param');
    const query = c.req.valid('query');
    if (wantsJson(c))
      return c.json(await events.listEvents(caller, { taskId, taskIds: [], kinds: [], after: query.after ?? null, limit: limitOf(query) }), 200);
    const stream = await events.streamTaskEvents(caller, taskId, c.req.valid('header')['last-event-id'] ?? query.after ?? null);
    return stream === null ? c.body(null, 204) : (answerEvents(c, stream) as never);
  },
);
