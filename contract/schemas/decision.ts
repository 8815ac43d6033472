import { z } from 'zod';
import { TaskIdSchema, Timestamp } from './task.js';

/** What is decided: a slot for a step, a change of models on a host, the end of steps whose model fits nowhere, and which task gives way in a deadlock. */
export const decisionKinds = ['grant', 'residency', 'refusal', 'deadlock'] as const;
export type DecisionKind = (typeof decisionKinds)[number];

export const DecisionTerms = z
  .object({
    model: z.string(),
    level: z.int().min(1).max(10).nullable().meta({ description: 'Of the first step that waits for it; null: none waits' }),
    load_ms: z.number().min(0).meta({ description: 'What loading it costs' }),
    served_ms: z.number().min(0).meta({ description: 'What it has served since its load' }),
    quantum_ms: z.number().min(0).nullable().meta({ description: 'What its load has bought; null: a step that waits for it goes first' }),
    affinity: z.number().min(0).max(1).meta({ description: 'The share of it that is left: max(0, 1 - served / quantum)' }),
  })
  .meta({
    id: 'DecisionTerms',
    description: 'The score of a model that had to go',
    example: { model: 'llama3.1:8b', level: 5, load_ms: 5000, served_ms: 98000, quantum_ms: 95000, affinity: 0 },
  });

export const Decision = z
  .object({
    id: z.uuid(),
    at: Timestamp,
    kind: z.enum(decisionKinds).meta({
      description:
        '`grant`: a step got a slot; `residency`: a host changes its models; `refusal`: what waits for a model that fits nowhere ends; `deadlock`: a task gives way',
    }),
    reason: z.string().meta({ description: 'Why, in a sentence' }),
    task_id: TaskIdSchema.nullable().meta({ description: 'The task, or the one for whose step a model is loaded; null: none, or another user’s' }),
    step: z.string().nullable(),
    model: z.string().nullable().meta({ description: 'Of the step, or the one that is loaded or fetched' }),
    unload: z.array(z.string()).meta({ description: 'Models that go for it' }),
    host: z.string().nullable().meta({ description: '`general` for a step without a model' }),
    priority: z.int().min(1).max(10).nullable().meta({ description: 'Level of the step as asked for' }),
    exact: z.int().min(0).max(100).nullable(),
    waited_ms: z.number().min(0).nullable().meta({ description: 'How long the step had waited' }),
    terms: z.array(DecisionTerms).meta({ description: 'The score of each model that had to go' }),
    algorithm: z
      .enum(['reinforcement_learning', 'priority_affinity'])
      .nullable()
      .meta({ description: 'What ordered the line; null: a person decided, or nothing was ordered' }),
    model_version: z.string().nullable().meta({ description: 'Of the learned agent that ordered the line; null: none did' }),
    fallback: z.string().nullable().meta({ description: 'Why the learned agent had no part in it; null: it had, or there is none' }),
    execution_time_ms: z.int().min(0).nullable().meta({ description: 'What the policy took' }),
  })
  .meta({
    id: 'Decision',
    description: 'Something that the scheduler decided',
    example: {
      id: '0b7e7d0e-9a3e-4f5e-8d4e-0f9a1b2c3d4e',
      at: '2026-01-09T10:30:00.000Z',
      kind: 'residency',
      reason: 'the first waiting step that has no model needs qwen3:14b, instead of llama3.1:8b',
      task_id: '8f14e45f-ceea-467f-a0e6-7c1f9d2b3a44',
      step: 'ollama_generate',
      model: 'qwen3:14b',
      unload: ['llama3.1:8b'],
      host: 'local',
      priority: 5,
      exact: 50,
      waited_ms: 84000,
      terms: [{ model: 'llama3.1:8b', level: 5, load_ms: 5000, served_ms: 98000, quantum_ms: 95000, affinity: 0 }],
      algorithm: 'priority_affinity',
      model_version: null,
      fallback: null,
      execution_time_ms: 1,
    },
  });
export type DecisionView = z.output<typeof Decision>;

export const DecisionList = z
  .object({
    items: z.array(Decision),
    next_cursor: z
      .string()
      .nullable()
      .meta({ description: 'Give it as `cursor` for what is older; null at the end. With filters a page may be empty and not the last' }),
  })
  .meta({ id: 'DecisionList', description: 'One page of decisions, newest first' });
export type DecisionListView = z.output<typeof DecisionList>;
