import { z } from '@hono/zod-openapi';
import { EventList } from '../contract/schemas/event.js';
import { parseEventId } from '../contract/event.js';
import { repeatable, wholeNumber } from './query-values.js';

const limitDefault = 100;
const limitMax = 500;
const kind = z.string().regex(/^[a-z][a-z_]{0,62}$/, { error: 'expected the kind of an event, such as completed' });

/** Query of a page of events; of a stream, where it begins. */
export const PageQuery = {
  after: z
    .string()
    .max(50)
    .refine((text) => parseEventId(text) !== undefined, 'This is not the id of an event.')
    .optional()
    .meta({
      description: '`next` of the page before, or the last event that was seen: what comes behind it; of a stream, `Last-Event-ID` goes first',
      example: '7301.512',
    }),
  limit: wholeNumber(1, limitMax)
    .optional()
    .meta({ type: 'integer', minimum: 1, maximum: limitMax, default: limitDefault, description: 'Events on a page; only with `Accept: application/json`' }),
};
export const TaskEventQuery = z.strictObject(PageQuery);
export const EventQuery = z.strictObject({
  task_id: repeatable(z.uuid(), 'Only events of these tasks'),
  kind: repeatable(kind, 'Only events of these kinds'),
  ...PageQuery,
});
export const limitOf = (query: { readonly limit?: number | undefined }): number => query.limit ?? limitDefault;

export const LastEventId = z.object({
  'last-event-id': z.string().max(50).optional().meta({ description: 'Id of the last event that was seen: the stream goes on behind it', example: '7301.512' }),
});

/** A stream to those who follow, a page to those who ask for JSON. */
export const eventResponses = {
  200: {
    description: 'The events, oldest first: a stream unless JSON is asked for.',
    content: {
      'text/event-stream': { schema: z.string().meta({ description: 'Server-sent events; `data` is an Event, `id` its id, `event` its kind' }) },
      'application/json': { schema: EventList },
    },
  },
};
