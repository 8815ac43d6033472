import { z } from 'zod';
import { JsonObjectSchema } from './json-value.js';
import { TaskIdSchema, Timestamp } from './task.js';

export const EventIdSchema = z
  .string()
  .meta({ description: 'Place of the event in the order of all events; the value for `Last-Event-ID`', example: '7301.512' });

export const Event = z
  .object({
    id: EventIdSchema,
    task_id: TaskIdSchema,
    at: Timestamp,
    kind: z.string().meta({ description: 'What happened, such as `queued`, `started`, `step_started`, `output`, `progress`, `step_finished`, `completed`' }),
    data: JsonObjectSchema,
  })
  .meta({
    id: 'Event',
    description: 'Something that happened to a task',
    example: {
      id: '7301.512',
      task_id: '8f14e45f-ceea-467f-a0e6-7c1f9d2b3a44',
      at: '2026-01-09T10:32:00.000Z',
      kind: 'output',
      data: { step: 'ollama_generate', attempt: 1, stream: 'text', text: 'A queue keeps' },
    },
  });
export type EventView = z.output<typeof Event>;

export const EventList = z
  .object({
    items: z.array(Event),
    next: EventIdSchema.meta({ description: 'Give it as `after` for what comes later' }),
  })
  .meta({ id: 'EventList', description: 'One page of events, oldest first' });
export type EventListView = z.output<typeof EventList>;
