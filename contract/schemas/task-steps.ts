import { z } from 'zod';
import { JsonObjectSchema } from './json-value.js';
import { PlannedStep } from './task-preview.js';
import { Timestamp } from './task.js';

/** Where a step of the present attempt stands. `not_reached`: the task ended before it; `skipped`: its condition was false, or it failed and the task goes on. */
export const stepStates = ['pending', 'waiting', 'running', 'completed', 'failed', 'cancelled', 'skipped', 'not_reached'] as const;
export type StepStanding = (typeof stepStates)[number];

/** Where one try stands. `void`: it lost its place or its slot, and does not count as an attempt. */
export const tryStates = ['waiting', 'running', 'completed', 'failed', 'cancelled', 'void'] as const;

export const StepTry = z
  .object({
    attempt: z.int().min(1).meta({ description: 'Attempt of the task' }),
    step_attempt: z.int().min(1).meta({ description: 'Attempt of the step within the attempt of the task' }),
    try: z.int().min(1).meta({ description: 'Counts every time the step stood in the line' }),
    state: z.enum(tryStates),
    host: z.string().nullable().meta({ description: 'Engine or host that ran it, or is to run it' }),
    entered_at: Timestamp.nullable().meta({ description: 'Since when it waited; null where that is not known any more' }),
    granted_at: Timestamp.nullable().meta({ description: 'When it got a slot' }),
    started_at: Timestamp.nullable(),
    ended_at: Timestamp.nullable(),
    first_output_at: Timestamp.nullable().meta({
      description: 'Since when its model writes, of one that runs; null: it has written nothing yet, needs no model, or has ended',
    }),
    model_load: z
      .object({ started_at: Timestamp, ended_at: Timestamp.nullable() })
      .nullable()
      .meta({ description: 'The part of its wait in which a host loaded its model; null where none is known' }),
    cause: z.string().nullable().meta({ description: 'Why it ended without a result' }),
    execution_id: z.uuid().nullable().meta({ description: 'Its execution; null: it has not run, or has not ended' }),
  })
  .meta({ id: 'StepTry', description: 'One time that a step stood in the line' });
export type StepTryView = z.output<typeof StepTry>;

const FilePlace = z.object({ line: z.int().min(1), column: z.int().min(1) });

export const TaskStep = PlannedStep.extend({
  state: z.enum(stepStates),
  rendered: z.boolean().meta({ description: 'Whether `input` is whole; false: the fields of `deferred` are not in it' }),
  place: FilePlace.nullable().meta({ description: 'Where it stands in the file of the template; null: the template has no such step any more' }),
  output: JsonObjectSchema.nullable().meta({
    type: ['object', 'null'],
    description: 'What it gave in this attempt; null where it has given nothing, or more than 64 KiB, which the result of a completed task has whole',
  }),
  output_bytes: z.int().min(0).nullable(),
  tries: z.array(StepTry).meta({ description: 'Of all attempts of the task, oldest first' }),
}).meta({ id: 'TaskStep', description: 'A step of a task' });
export type TaskStepView = z.output<typeof TaskStep>;

export const TaskSteps = z
  .object({
    attempt: z.int().min(1).meta({ description: 'The present attempt of the task' }),
    template: z.object({
      name: z.string(),
      file: z.string().nullable().meta({ description: 'Null: there is no template of this name any more' }),
      current: z
        .boolean()
        .meta({ description: 'Whether the file is still as it was when the task was submitted; else places in it are those of the present file' }),
    }),
    failed_at: FilePlace.extend({ file: z.string(), field: z.string().nullable().meta({ description: 'The field that is at fault, where that is known' }) })
      .nullable()
      .meta({ description: 'Where the step that failed stands in the file of the template' }),
    items: z.array(TaskStep),
  })
  .meta({ id: 'TaskSteps', description: 'The steps of a task, in the order of its plan' });
export type TaskStepsView = z.output<typeof TaskSteps>;
