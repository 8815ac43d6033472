import { z } from 'zod';
import { JsonObjectSchema } from './json-value.js';
import { TaskIdSchema, Timestamp } from './task.js';

/** How a try of a step ended. `void`: its slot was lost or given back, and the step was tried again without counting as an attempt. */
export const executionStatuses = ['completed', 'failed', 'cancelled', 'void'] as const;

export const Execution = z
  .object({
    id: z.uuid(),
    task_id: TaskIdSchema,
    attempt: z.int().min(1).meta({ description: 'Attempt of the task' }),
    step: z.string(),
    step_type: z.string(),
    step_attempt: z.int().min(1).meta({ description: 'Attempt of the step within the attempt of the task' }),
    try: z.int().min(1).meta({ description: 'Counts every time the step stood in the line' }),
    host: z.string().meta({ description: 'Engine or host that ran it' }),
    status: z.enum(executionStatuses),
    started_at: Timestamp,
    completed_at: Timestamp,
    cpu_used: z.number().nullable().meta({ description: 'Seconds of processor time of a script' }),
    memory_used: z.number().nullable().meta({ description: 'GB at most: of a script’s processes, or of the model in memory' }),
    exit_code: z.int().nullable().meta({ description: 'Of a script' }),
    logs: z.string().nullable().meta({ description: 'What a script printed, shortened in the middle' }),
    metrics: JsonObjectSchema.meta({ description: 'Of a model step: inferences, tokens, durations, model and digest' }),
    error: z.object({ code: z.string(), message: z.string().optional(), details: z.unknown().optional() }).nullable(),
    output_bytes: z.int().min(0).nullable().meta({ description: 'Size of its output as JSON; the output itself is in the result of the task' }),
  })
  .meta({
    id: 'Execution',
    description: 'One try of a step that ran',
    example: {
      id: 'b7c0e0a4-7c0e-4d5a-9f11-0d0d5f3a1c22',
      task_id: '8f14e45f-ceea-467f-a0e6-7c1f9d2b3a44',
      attempt: 1,
      step: 'run_tests',
      step_type: 'execute_script',
      step_attempt: 2,
      try: 2,
      host: 'engine-1',
      status: 'failed',
      started_at: '2026-01-09T10:32:00.000Z',
      completed_at: '2026-01-09T10:33:10.000Z',
      cpu_used: 41.2,
      memory_used: 0.4,
      exit_code: 2,
      logs: '1 of 40 tests failed',
      metrics: {},
      error: { code: 'step_failed', message: 'exit code 2' },
      output_bytes: null,
    },
  });
export type ExecutionView = z.output<typeof Execution>;

export const ExecutionList = z
  .object({ items: z.array(Execution) })
  .meta({ id: 'ExecutionList', description: 'Every try of a task’s steps that ran, oldest first' });
