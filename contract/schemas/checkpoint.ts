import { z } from 'zod';
import { taskStatuses } from '../status.js';
import { Level, TaskIdSchema, Timestamp } from './task.js';

export const CheckpointIdSchema = z.int().min(1).meta({ description: 'Numbered from 1 upwards', example: 3 });

const fields = {
  id: CheckpointIdSchema,
  name: z.string().nullable(),
  created_at: Timestamp,
  created_by: z.string(),
  tasks: z.int().min(0).meta({ description: 'Tasks that were queued or running' }),
  definitions: z.int().min(0).meta({ description: 'Templates there were' }),
};
const example = { id: 3, name: 'before the move', created_at: '2026-01-09T10:30:00.000Z', created_by: 'admin', tasks: 12, definitions: 3 };

export const Checkpoint = z.object(fields).meta({ id: 'Checkpoint', description: 'The state of the queue and of the templates at a moment', example });
export type CheckpointView = z.output<typeof Checkpoint>;

export const CheckpointContent = z.object({
  definitions: z.array(z.object({ name: z.string(), source: z.string(), hash: z.string(), yaml: z.string() })),
  queue: z.array(
    z.object({
      task_id: TaskIdSchema,
      name: z.string(),
      template: z.string(),
      template_hash: z.string(),
      status: z.enum(taskStatuses),
      attempt: z.int().min(1),
      priority: Level,
      depends_on: z.array(TaskIdSchema),
      agent_assigned: z.string().nullable(),
    }),
  ),
  locks: z.array(z.object({ name: z.string(), task_id: TaskIdSchema })),
});

export const CheckpointDetail = z
  .object({ ...fields, content: CheckpointContent })
  .meta({ id: 'CheckpointDetail', description: 'A checkpoint with what it holds; the queue in its order, running tasks first' });
export type CheckpointDetailView = z.output<typeof CheckpointDetail>;

export const CheckpointList = z.object({ items: z.array(Checkpoint) }).meta({ id: 'CheckpointList', description: 'Every checkpoint, newest first' });

export const CreateCheckpoint = z
  .strictObject({ name: z.string().min(1).max(200).optional() })
  .meta({ id: 'CreateCheckpoint', description: 'A checkpoint to write', example: { name: 'before the move' } });
export type CreateCheckpointRequest = z.output<typeof CreateCheckpoint>;

/** What became of a task or a template when a checkpoint was restored. */
export const restoredTaskOutcomes = ['unchanged', 'moved', 'queued_again', 'went_on', 'gone'] as const;
export const restoredDefinitionOutcomes = ['unchanged', 'changed', 'missing'] as const;

export const RestoredCheckpoint = z
  .object({
    checkpoint_id: CheckpointIdSchema,
    tasks: z.array(
      z.object({
        task_id: TaskIdSchema,
        outcome: z.enum(restoredTaskOutcomes).meta({
          description:
            '`moved`: priority, place or dependencies are as they were; `queued_again`: it had failed or was cancelled since; `went_on`: it runs or has completed, and work is not undone; `gone`: retention has removed it',
        }),
      }),
    ),
    definitions: z.array(
      z.object({
        name: z.string(),
        outcome: z.enum(restoredDefinitionOutcomes).meta({ description: 'How the template is now; its file is its author’s and is not written' }),
      }),
    ),
  })
  .meta({
    id: 'RestoredCheckpoint',
    description: 'What restoring a checkpoint did, task by task',
    example: {
      checkpoint_id: 3,
      tasks: [{ task_id: '8f14e45f-ceea-467f-a0e6-7c1f9d2b3a44', outcome: 'queued_again' }],
      definitions: [{ name: 'ollama-inference', outcome: 'unchanged' }],
    },
  });
export type RestoredCheckpointView = z.output<typeof RestoredCheckpoint>;
