import { z } from 'zod';
import { onFailures } from '../plan.js';
import { JsonObjectSchema } from './json-value.js';
import { Level, TaskModel } from './task.js';

/** A step as it is to run; what the plan of a task holds of it. */
export const PlannedStep = z.object({
  id: z.string(),
  type: z.string(),
  title: z.string(),
  pool: z.enum(['general', 'model']).meta({ description: '`model`: it waits until its model is loaded' }),
  model: z.string().nullable(),
  needs: z.array(z.string()).meta({ description: 'Steps that end before it' }),
  input: JsonObjectSchema.meta({ description: 'What is known now; the rest is in `deferred`' }),
  deferred: z.array(z.object({ path: z.array(z.union([z.string(), z.int()])), template: z.string() })).meta({
    description: 'Fields that wait for the output of earlier steps',
  }),
  when: z.string().nullable(),
  timeout_seconds: z.number(),
  retry: z.object({
    max_attempts: z.int(),
    initial_interval_seconds: z.number(),
    backoff_coefficient: z.number(),
    max_interval_seconds: z.number(),
    non_retryable_errors: z.array(z.string()),
  }),
  on_failure: z.enum(onFailures),
});
export type PlannedStepView = z.output<typeof PlannedStep>;

export const TaskPreview = z
  .object({
    template: z.string(),
    template_hash: z.string(),
    priority: Level,
    parameters: JsonObjectSchema.meta({ description: 'With the defaults of the template' }),
    models: z.array(TaskModel),
    steps: z.array(PlannedStep),
  })
  .meta({ id: 'TaskPreview', description: 'What a task would run' });
export type TaskPreviewView = z.output<typeof TaskPreview>;
