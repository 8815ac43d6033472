import { z } from 'zod';
import { TaskIdSchema, Timestamp } from './task.js';

const Until = Timestamp.nullable().meta({ description: 'Null: it is so now' });

export const ModelTimeline = z
  .object({
    from: Timestamp,
    now: Timestamp,
    until: Timestamp,
    held: z
      .array(
        z.object({
          host: z.string(),
          model: z.string(),
          state: z
            .enum(['loading', 'serving', 'draining', 'kept', 'planned'])
            .meta({ description: '`kept`: served now and predicted to be; `planned`: predicted to be loaded' }),
          from: Timestamp,
          until: Until,
        }),
      )
      .meta({ description: 'What hosts held, hold, and are predicted to hold' }),
    steps: z
      .array(
        z.object({
          host: z.string(),
          model: z.string(),
          status: z.enum(['completed', 'failed', 'cancelled', 'void', 'running', 'planned']),
          from: Timestamp,
          until: Until,
          task_id: TaskIdSchema.nullable().meta({ description: 'Null where it is another user’s, or only predicted' }),
          name: z.string().nullable(),
          step: z.string().nullable(),
        }),
      )
      .meta({ description: 'Steps with a model, on the host that ran them, the latest 2,000, and the next 500 that are predicted' }),
  })
  .meta({ id: 'ModelTimeline', description: 'Models of each host in the past, now and as predicted' });
export type ModelTimelineView = z.output<typeof ModelTimeline>;
