import { z } from 'zod';
import { modelNameCharsMax } from '../model-name.js';
import { statusDetails, taskStatuses } from '../status.js';
import { Level, Task, TaskIdSchema, Timestamp } from './task.js';

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

export const QueueMovePreview = z
  .object({
    later: z.int().min(0).meta({ description: 'Steps of everybody that would start at least a second later' }),
    sooner: z.int().min(0).meta({ description: 'Steps that would start at least a second sooner' }),
    items: z
      .array(
        z.object({
          task_id: TaskIdSchema,
          name: z.string(),
          step: z.string(),
          start_before: Timestamp.meta({ description: 'Predicted start as things are' }),
          start_after: Timestamp.meta({ description: 'Predicted start after the move' }),
        }),
      )
      .meta({ description: 'Those of them that the caller may see, the ones that change most first, at most 200' }),
  })
  .meta({
    id: 'QueueMovePreview',
    description: 'What a move would do to predicted starts',
    example: {
      later: 1,
      sooner: 1,
      items: [
        {
          task_id: exampleId,
          name: 'release notes',
          step: 'ollama_generate',
          start_before: '2026-01-09T10:31:20.000Z',
          start_after: '2026-01-09T10:30:21.000Z',
        },
      ],
    },
  });
export type QueueMovePreviewView = z.output<typeof QueueMovePreview>;

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

export const Interval = z.tuple([Timestamp, Timestamp]).nullable().meta({ description: 'Earliest and latest; meant to hold in 80 of 100 cases' });

export const QueueEntry = z
  .object({
    task_id: TaskIdSchema.nullable().meta({ description: 'Null, as everything that tells of the task, where it is another user’s' }),
    name: z.string().nullable(),
    template: z.string().nullable(),
    user_id: z.string().nullable(),
    status: z.enum(taskStatuses).nullable().meta({ description: '`queued`, or `running` where earlier steps of the task have run' }),
    status_detail: z.enum(statusDetails).nullable(),
    priority: Level,
    exact: z.int().min(0).max(100).nullable().meta({ description: 'The exact priority, 0 to 100' }),
    arrival: z.int().min(1).nullable().meta({
      description: 'Its place by arrival, or where a person has put it: what goes first of equal priority while their models are in memory',
    }),
    position: z.int().min(1).meta({ description: 'Place in the order of predicted starts, among everything that waits' }),
    step: z.string().nullable().meta({ description: 'Null while none of its steps has entered the line' }),
    model: z.string().nullable().meta({ description: 'Null for a step without a model' }),
    host: z.string().nullable().meta({ description: 'Where it is predicted to run; null where that cannot be told' }),
    waiting_since: Timestamp.nullable(),
    estimated_start_time: Timestamp.nullable().meta({ description: 'Null where nothing can be told, such as for what is held or paused' }),
    estimated_start_interval: Interval,
    estimated_completion_time: Timestamp.nullable().meta({ description: 'Of the whole task' }),
    estimated_completion_interval: Interval,
    reason: z.string().nullable().meta({ description: 'What it waits for, in a sentence' }),
  })
  .meta({
    id: 'QueueEntry',
    description: 'A step that waits',
    example: {
      task_id: exampleId,
      name: 'release notes',
      template: 'ollama-inference',
      user_id: 'admin',
      status: 'queued',
      status_detail: 'waiting_model',
      priority: 5,
      exact: 50,
      arrival: 4,
      position: 3,
      step: 'ollama_generate',
      model: 'qwen3:14b',
      host: 'local',
      waiting_since: '2026-01-09T10:30:00.000Z',
      estimated_start_time: '2026-01-09T10:30:21.000Z',
      estimated_start_interval: ['2026-01-09T10:30:15.000Z', '2026-01-09T10:30:40.000Z'],
      estimated_completion_time: '2026-01-09T10:31:02.000Z',
      estimated_completion_interval: ['2026-01-09T10:30:45.000Z', '2026-01-09T10:31:50.000Z'],
      reason: '3rd: waits for qwen3:14b, which is loaded when llama3.1:8b has served 11 s more',
    },
  });
export type QueueEntryView = z.output<typeof QueueEntry>;

export const RunningStep = z
  .object({
    task_id: TaskIdSchema.nullable().meta({ description: 'Null where it is another user’s' }),
    name: z.string().nullable(),
    priority: Level,
    step: z.string().nullable(),
    model: z.string().nullable(),
    host: z.string().meta({ description: 'The engine for a step without a model' }),
    started_at: Timestamp.nullable().meta({ description: 'Null: it has a slot and is about to start' }),
    progress: z
      .object({ phase: z.string(), done: z.number().nullable(), total: z.number().nullable() })
      .nullable()
      .meta({ description: 'How far it says it is' }),
    estimated_completion_time: Timestamp.nullable().meta({ description: 'Of the whole task' }),
  })
  .meta({ id: 'RunningStep', description: 'A step that runs' });
export type RunningStepView = z.output<typeof RunningStep>;

export const ModelChange = z
  .object({
    host: z.string(),
    load: z.string().nullable().meta({ description: 'The model that is loaded' }),
    pull: z.string().nullable().meta({ description: 'The model that is fetched from its registry' }),
    unload: z.array(z.string()),
    reason: z.string(),
    since: Timestamp,
  })
  .meta({ id: 'ModelChange', description: 'A change of models that a host carries out' });
export type ModelChangeView = z.output<typeof ModelChange>;

export const Queue = z
  .object({
    items: z.array(QueueEntry),
    next_cursor: z.string().nullable().meta({ description: 'Give it as `cursor` for the next page; null on the last' }),
    total: z.int().min(0).meta({ description: 'How many entries the filters match, on all pages' }),
    version: z.int().min(0).meta({ description: 'Grows when a person changes the order; give it to a move that is to be made of just this order' }),
    made_at: Timestamp.nullable().meta({
      description: 'When the forecast was made; null: there is none yet, so that the order is that of the line, without times',
    }),
    pauses: z.array(Pause),
    running: z.array(RunningStep),
    changes: z.array(ModelChange),
  })
  .meta({ id: 'Queue', description: 'One page of what waits, in the order of predicted starts, and what runs meanwhile' });
export type QueueView = z.output<typeof Queue>;
