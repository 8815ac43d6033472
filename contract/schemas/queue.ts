import { z } from 'zod';
import { modelNameCharsMax } from '../model-name.js';
import { Task, Timestamp } from './task.js';

const exampleId = '8f14e45f-ceea-467f-a0e6-7c1f9d2b3a44';
const otherId = '3f0c1f3e-5b7e-4f0e-8a43-6f3d4f1c9a10';

export const ReorderQueue = z
  .strictObject({
    task_id: z.string().max(100).meta({ description: 'Id of the task that is moved' }),
    before: z.string().max(100).optional().meta({ description: 'Id of the task that it is to stand directly before' }),
    after: z.string().max(100).optional().meta({ description: 'Id of the task that it is to stand directly behind; exactly one of `before` and `after`' }),
    version: z.int().min(0).optional().meta({
      description: '`version` of the queue as it was seen: the move is refused when somebody has placed one of the two tasks since',
    }),
  })
  .refine(({ before, after }) => (before === undefined) !== (after === undefined), { error: 'give either before or after', path: ['before'] })
  .meta({ id: 'ReorderQueue', description: 'A task and where it is to stand', example: { task_id: exampleId, before: otherId } });

export const QueueMove = z
  .object({ task: Task, version: z.int().min(0).meta({ description: 'Of the queue after the move' }) })
  .meta({ id: 'QueueMove', description: 'The task that was moved' });
export type QueueMoveView = z.output<typeof QueueMove>;

export const Pause = z
  .object({
    scope: z.enum(['queue', 'host', 'model']),
    name: z.string().nullable().meta({ description: 'The host or the model; null for the whole queue' }),
    by: z.string().nullable().meta({ description: 'Who paused it; null where the caller may not see that' }),
    reason: z.string().nullable(),
    at: Timestamp,
  })
  .meta({
    id: 'Pause',
    description: 'A part of the queue in which nothing new starts; what runs goes on',
    example: { scope: 'model', name: 'llama3.1:8b', by: 'admin', reason: 'new version tonight', at: '2026-01-09T10:30:00.000Z' },
  });
export type PauseView = z.output<typeof Pause>;

export const PauseList = z.object({ items: z.array(Pause) }).meta({ id: 'PauseList', description: 'Every pause, the oldest first' });
export type PauseListView = z.output<typeof PauseList>;

const noControls = (text: string) => !/\p{Cc}/u.test(text);
const host = z.string().min(1).max(63).refine(noControls, { error: 'contains control characters' });
const model = z.string().min(1).max(modelNameCharsMax);

export const PauseQueue = z
  .strictObject({
    host: host.optional().meta({ description: 'Only on this host' }),
    model: model.optional().meta({ description: 'Only for this model, a name or an alias' }),
    reason: z
      .string()
      .min(1)
      .max(500)
      .refine(noControls, { error: 'contains control characters' })
      .optional()
      .meta({ description: 'What people who look at the queue are told' }),
  })
  .refine(({ host: one, model: other }) => one === undefined || other === undefined, { error: 'give a host or a model, not both', path: ['model'] })
  .meta({
    id: 'PauseQueue',
    description: 'What is paused: the whole queue, unless a host or a model is named',
    example: { model: 'llama3.1:8b', reason: 'new version tonight' },
  });

/** The same names in a query. */
export const PauseTarget = z
  .strictObject({ host: host.optional(), model: model.optional() })
  .refine(({ host: one, model: other }) => one === undefined || other === undefined, { error: 'give a host or a model, not both', path: ['model'] });
