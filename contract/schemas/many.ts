import { z } from 'zod';
import { Problem } from './problem.js';
import { CreateTask, Level, Task, TaskIdSchema, Timestamp } from './task.js';
import { taskStatuses } from '../status.js';
import { isStorableTime, storableTimeText } from './time.js';

/** Tasks that one batch may hold, and ids that one bulk request may name. */
export const manyMax = 1_000;
export const bulkLimitMax = 10_000;

const ref = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, { error: 'expected 1 to 64 letters, digits, "_" and "-"' });

/** What is wrong with one item, as a single request would be told. */
export const ItemProblem = Problem.pick({ code: true, title: true, status: true, detail: true, errors: true }).meta({
  id: 'ItemProblem',
  description: 'Why an item was refused',
  example: {
    code: 'template_not_found',
    title: 'No such template',
    status: 422,
    detail: 'There is no template "olama-inference"; did you mean "ollama-inference"?',
    errors: [],
  },
});
export type ItemProblemView = z.output<typeof ItemProblem>;

export const BatchItem = CreateTask.extend({
  ref: ref.optional().meta({ description: 'Name of the item in this batch; `depends_on` of others may hold `#<ref>`', example: 'first' }),
  idempotency_key: z
    .string()
    .regex(/^[\x21-\x7e]{1,255}$/, { error: 'expected 1 to 255 printable characters without blanks' })
    .optional()
    .meta({ description: 'As the header Idempotency-Key of a single request' }),
}).meta({ id: 'BatchItem', description: 'A task of a batch' });
export type BatchItemRequest = z.output<typeof BatchItem>;

// Items are checked one by one, so that a wrong one is told and harms no other.
export const CreateBatch = z
  .strictObject({
    tasks: z
      .array(z.unknown())
      .min(1)
      .max(manyMax)
      .meta({ items: { $ref: '#/components/schemas/BatchItem' } }),
  })
  .meta({
    id: 'CreateBatch',
    description: 'Tasks to create together',
    example: {
      tasks: [
        { ref: 'read', template: 'file-processing', parameters: { input_files: ['may.txt'], analysis_model: 'llama3.2:1b', output_format: 'markdown' } },
        { template: 'ollama-inference', parameters: { model: 'llama3.2:1b', prompt: 'Say that it is done.' }, depends_on: ['#read'] },
      ],
    },
  });

export const BatchResult = z
  .object({
    created: z.int().min(0),
    existing: z.int().min(0),
    refused: z.int().min(0),
    items: z.array(
      z.object({
        index: z.int().min(0).meta({ description: 'Place in the request, from 0' }),
        outcome: z.enum(['created', 'existing', 'refused']).meta({ description: '`existing`: the task that its idempotency key already created' }),
        task: z.union([Task, z.null()]),
        problem: z.union([ItemProblem, z.null()]),
      }),
    ),
  })
  .meta({ id: 'BatchResult', description: 'What became of each item, in the order of the request' });
export type BatchResultView = z.output<typeof BatchResult>;

export const bulkActions = ['cancel', 'retry', 'priority'] as const;

const text = z
  .string()
  .min(1)
  .max(255)
  .refine((value) => !value.includes('\0'), { error: 'expected a text without NUL' });
const list = <S extends z.ZodType>(item: S) => z.array(item).max(100).default([]);
const time = z.iso.datetime({ offset: true }).refine(isStorableTime, { error: storableTimeText }).nullable().default(null);

export const BulkFilter = z
  .strictObject({
    status: list(z.enum(taskStatuses)),
    template: list(text),
    priority: list(Level),
    type: list(text),
    user_id: list(text),
    name: text.nullable().default(null).meta({ description: 'A text that the name contains, upper and lower case alike' }),
    created_after: time,
    created_before: time,
    ended_after: time,
    ended_before: time,
  })
  .meta({
    id: 'BulkFilter',
    description: 'Tasks that fit all of it; values of one field are alternatives',
    example: { status: ['failed'], template: ['ollama-inference'] },
  });

export const BulkRequest = z
  .strictObject({
    action: z.enum(bulkActions),
    priority: Level.optional().meta({ description: 'The new priority; only with the action `priority`' }),
    ids: z.array(z.string().max(100)).min(1).max(manyMax).optional().meta({ description: 'Either these, or a filter' }),
    filter: BulkFilter.optional(),
    dry_run: z.boolean().default(false).meta({ description: 'Only tell what would become of each task' }),
    limit: z
      .int()
      .min(1)
      .max(bulkLimitMax)
      .default(manyMax)
      .meta({ description: 'Tasks of a filter that are changed at most; `remaining` tells how many are left' }),
  })
  .refine(({ ids, filter }) => (ids === undefined) !== (filter === undefined), { error: 'give either ids or a filter', path: ['filter'] })
  .refine(({ action, priority }) => (action === 'priority') === (priority !== undefined), {
    error: 'belongs to the action "priority", and is needed for it',
    path: ['priority'],
  })
  .meta({
    id: 'BulkRequest',
    description: 'Something to do to many tasks',
    example: { action: 'retry', filter: { status: ['failed'], created_after: '2026-01-09T00:00:00Z' } },
  });
export type BulkRequestInput = z.output<typeof BulkRequest>;

export const bulkOutcomes = ['cancelled', 'stopping', 'retried', 'changed', 'unchanged', 'finished', 'not_retryable', 'not_found', 'would_change'] as const;
export type BulkOutcome = (typeof bulkOutcomes)[number];

export const BulkResult = z
  .object({
    action: z.enum(bulkActions),
    dry_run: z.boolean(),
    matched: z.int().min(0).meta({ description: 'Tasks that the ids name, or that fit the filter and that the action has an effect on' }),
    changed: z.int().min(0).meta({ description: 'Tasks that the action had an effect on, or would have with `dry_run`' }),
    skipped: z.int().min(0),
    remaining: z.int().min(0).meta({ description: 'Tasks beyond the limit; ask again for them' }),
    items: z.array(z.object({ id: z.string(), outcome: z.enum(bulkOutcomes) })),
  })
  .meta({
    id: 'BulkResult',
    description: 'What became of each task',
    example: {
      action: 'retry',
      dry_run: false,
      matched: 1,
      changed: 1,
      skipped: 0,
      remaining: 0,
      items: [{ id: '8f14e45f-ceea-467f-a0e6-7c1f9d2b3a44', outcome: 'retried' }],
    },
  });
export type BulkResultView = z.output<typeof BulkResult>;

/** One line of a report; the columns of the CSV are these names in this order. */
export const ReportRow = z
  .object({
    id: TaskIdSchema,
    name: z.string(),
    template: z.string(),
    type: z.string(),
    status: z.enum(taskStatuses),
    priority: Level,
    user_id: z.string(),
    attempt: z.int(),
    created_at: Timestamp,
    started_at: Timestamp.nullable(),
    completed_at: Timestamp.nullable(),
    waited_seconds: z.number().nullable().meta({ description: 'From its creation to its start' }),
    ran_seconds: z.number().nullable(),
    model_name: z.string().nullable(),
    inference_time_seconds: z.number().nullable(),
    memory_used_gb: z.number().nullable(),
    prompt_tokens: z.int().meta({ description: 'Of all attempts' }),
    output_tokens: z.int(),
    error_code: z.string().nullable(),
    error_message: z.string().nullable(),
  })
  .meta({ id: 'ReportRow', description: 'A task in a report' });
export type ReportRowView = z.output<typeof ReportRow>;
export const Report = z.object({ items: z.array(ReportRow) }).meta({ id: 'Report', description: 'Every task that fits, newest first' });
