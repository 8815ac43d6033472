import { z } from 'zod';
import { forecastReasons } from '../forecast.js';
import { onFailures } from '../plan.js';
import { JsonObjectSchema } from './json-value.js';
import { Interval } from './queue.js';
import { Level, TaskModel, Timestamp } from './task.js';

const seconds = z.number().min(0);
const Seconds = seconds.nullable().meta({ description: 'By what steps like these took so far; null while nothing like it has run' });
const SecondsInterval = z.tuple([seconds, seconds]).nullable().meta({ description: 'Shortest and longest; meant to hold in 80 of 100 cases' });

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
    estimated_duration_seconds: seconds.nullable().meta({
      description:
        'From the start of the first step to the end of the last one while nothing keeps it waiting; null while any of its steps is of a kind that has never run',
    }),
    estimated_duration_interval: SecondsInterval,
    queue_position: z
      .int()
      .min(1)
      .nullable()
      .meta({ description: 'Where its first step would stand among the steps that wait, if it came now; null where nothing can be told' }),
    estimated_start_time: Timestamp.nullable().meta({
      description: 'If it came now; null where nothing can be told, or not in time for a line as long as this',
    }),
    estimated_start_interval: Interval,
    estimated_completion_time: Timestamp.nullable().meta({
      description: 'Of the whole task, waiting and loading of models included; null as `estimated_duration_seconds` as well',
    }),
    estimated_completion_interval: Interval,
    waits_for: z.enum(forecastReasons).nullable().meta({ description: 'What its first step would wait for; `waiting_slot` also where one is free' }),
    steps: z.array(PlannedStep.extend({ estimated_duration_seconds: Seconds, estimated_duration_interval: SecondsInterval })),
  })
  .meta({ id: 'TaskPreview', description: 'What a task would run' });
export type TaskPreviewView = z.output<typeof TaskPreview>;
