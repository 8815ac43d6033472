import { z } from 'zod';
import { Timestamp, TaskIdSchema } from './task.js';

const exampleId = '8f14e45f-ceea-467f-a0e6-7c1f9d2b3a44';

export const AcquireLock = z
  .strictObject({
    task_id: z.string().max(100).meta({ description: 'Id of the running task that takes it' }),
    wait: z.boolean().default(false).meta({
      description: 'Whether a refusal is remembered for 30 seconds: the lock is then kept for the task when it is free, until it asks again',
    }),
  })
  .meta({ id: 'AcquireLock', description: 'Who takes the lock', example: { task_id: exampleId, wait: true } });

export const LockAnswer = z
  .object({
    name: z.string(),
    acquired: z.boolean(),
    holder: TaskIdSchema.nullable().meta({ description: 'Who has it; null where the caller may not see that task' }),
  })
  .meta({ id: 'LockAnswer', description: 'Whether the task has the lock now', example: { name: 'deploy-staging', acquired: true, holder: exampleId } });
export type LockAnswerView = z.output<typeof LockAnswer>;

export const LockReleased = z
  .object({ name: z.string(), released: z.boolean().meta({ description: 'False: the task did not have it, or needs it until its end' }) })
  .meta({ id: 'LockReleased', description: 'Whether the task gave the lock back', example: { name: 'deploy-staging', released: true } });
export type LockReleasedView = z.output<typeof LockReleased>;

export const Lock = z
  .object({
    name: z.string().meta({ description: '`agent:<name>` for the agent of a task' }),
    task_id: TaskIdSchema.nullable().meta({ description: 'Who has it; null where the caller may not see that task' }),
    acquired_at: Timestamp,
    until: z.enum(['end', 'released']).meta({ description: '`released`: taken while the task ran, so that it may be given back before the end' }),
    waiting: z.array(TaskIdSchema).meta({ description: 'Tasks of the caller that wait for it, in their order, at most 100' }),
  })
  .meta({
    id: 'Lock',
    description: 'A lock that a task has',
    example: { name: 'deploy-staging', task_id: exampleId, acquired_at: '2026-01-09T10:32:00.000Z', until: 'end', waiting: [] },
  });

export const LockList = z
  .object({ items: z.array(Lock), next_cursor: z.string().nullable().meta({ description: 'Give it as `cursor` for the next page; null on the last' }) })
  .meta({ id: 'LockList', description: 'One page of the locks that tasks have, by name' });
export type LockListView = z.output<typeof LockList>;

export const ResourcePool = z
  .object({
    pool: z.string(),
    unit: z.enum(['cores', 'GiB', 'cards', 'units']),
    total: z.number(),
    allocated: z.number().meta({ description: 'What tasks hold; more than `total` where the pool has shrunk meanwhile' }),
    used: z.number().nullable().meta({ description: 'Measured on the machines, all programs; null where nothing measures it' }),
    source: z.enum(['machines', 'configuration']),
    tasks: z.array(z.object({ task_id: TaskIdSchema, amount: z.number() })).meta({ description: 'Tasks of the caller that hold some of it' }),
    waiting: z.int().min(0).meta({ description: 'Steps in the line whose task needs some of it' }),
  })
  .meta({
    id: 'ResourcePool',
    description: 'A named amount of which tasks hold parts',
    example: {
      pool: 'memory',
      unit: 'GiB',
      total: 64,
      allocated: 8.5,
      used: 21.4,
      source: 'machines',
      tasks: [{ task_id: exampleId, amount: 8.5 }],
      waiting: 0,
    },
  });

export const ResourceList = z.object({ items: z.array(ResourcePool) }).meta({ id: 'ResourceList', description: 'Every resource pool, by name' });
export type ResourceListView = z.output<typeof ResourceList>;
