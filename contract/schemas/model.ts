import { z } from 'zod';
import { Timestamp } from './task.js';

export const Model = z
  .object({
    name: z.string(),
    host: z.string(),
    digest: z.string().nullable(),
    size_bytes: z.int().nullable().meta({ description: 'On disk' }),
    loaded: z.boolean().meta({ description: 'In memory now, whoever loaded it' }),
    memory_bytes: z.int().nullable().meta({ description: 'All memory it takes, that of the GPU included; null when not loaded' }),
    vram_bytes: z.int().nullable().meta({ description: 'Memory of the GPU; null when not loaded' }),
    shares_memory_with: z
      .array(z.string())
      .meta({ description: 'Other names that are answered from the same memory: copies, and models made from the same weights; it is counted with each' }),
    context_length: z.int().nullable(),
    queue_depth: z.int().min(0).meta({ description: 'Steps that wait for this model' }),
    last_used_at: Timestamp.nullable(),
    expires_at: Timestamp.nullable().meta({ description: 'When the server drops it unless it is used again' }),
    aliases: z.array(z.string()).meta({ description: 'Configured short names of it' }),
    serving: z.boolean().meta({ description: 'Steps may be granted on it' }),
    pull: z
      .object({ status: z.string(), completed_bytes: z.int(), total_bytes: z.int() })
      .nullable()
      .meta({ description: 'How far it is fetched; null when it is not' }),
    usage: z
      .object({ inferences: z.int(), inference_time_seconds: z.number(), prompt_tokens: z.int(), output_tokens: z.int() })
      .meta({ description: 'What tasks of this installation had of it, on all hosts' }),
  })
  .meta({
    id: 'Model',
    description: 'A model that a host has',
    example: {
      name: 'llama3.1:8b',
      host: 'host-1',
      digest: 'sha256:46e0c10c039e',
      size_bytes: 4_920_753_328,
      loaded: true,
      memory_bytes: 6_654_289_920,
      vram_bytes: 6_654_289_920,
      shares_memory_with: [],
      context_length: 4096,
      queue_depth: 3,
      last_used_at: '2026-01-09T10:45:00.000Z',
      expires_at: '2026-01-09T10:55:00.000Z',
      aliases: ['fast'],
      serving: true,
      pull: null,
      usage: { inferences: 41, inference_time_seconds: 512.4, prompt_tokens: 30_112, output_tokens: 8_450 },
    },
  });

const ModelHost = z
  .object({
    id: z.string(),
    ready: z.boolean().meta({ description: 'Whether it takes work' }),
    why: z.string().nullable().meta({ description: 'Why it takes none; null when it does' }),
    address: z.string().meta({ description: 'Of its model server, as the host calls it' }),
    version: z.string().nullable().meta({ description: 'Of its model server' }),
    parallel: z.int().meta({ description: 'Steps that run on one model at the same time' }),
    models_max: z.int().meta({ description: 'Models in memory at the same time' }),
    budget_bytes: z.int().nullable().meta({ description: 'Memory for models without any other program; null: not limited by bytes' }),
    room_bytes: z.int().nullable().meta({ description: 'What other programs leave of it now' }),
  })
  .meta({
    id: 'ModelHost',
    description: 'A machine with a model server',
    example: {
      id: 'host-1',
      ready: true,
      why: null,
      address: 'http://127.0.0.1:11434',
      version: '0.24.0',
      parallel: 1,
      models_max: 3,
      budget_bytes: 25_757_220_864,
      room_bytes: 25_757_220_864,
    },
  });

export const ModelList = z
  .object({
    items: z.array(Model),
    hosts: z.array(ModelHost).meta({ description: 'Those heard of within a day' }),
    aliases: z
      .array(z.object({ alias: z.string(), name: z.string(), digest: z.string().nullable() }))
      .meta({ description: 'Short names of the configuration' }),
  })
  .meta({ id: 'ModelList', description: 'Every model of every host' });
export type ModelListView = z.output<typeof ModelList>;

export const OrderModel = z
  .strictObject({
    host: z.string().min(1).max(63).optional().meta({ description: 'Default: of those that are ready one that has the model' }),
    num_ctx: z.int().min(256).max(1_048_576).optional().meta({ description: 'Tokens of context to load it with; default: that of the installation' }),
  })
  .meta({ id: 'OrderModel', description: 'Where and how', example: {} });

export const ModelOrder = z
  .object({
    order_id: z.uuid().nullable().meta({ description: 'Null: there was nothing to do' }),
    host: z.string(),
    model: z.string(),
    action: z.enum(['load', 'unload', 'pull']),
    state: z.enum(['open', 'done', 'failed']),
    requested_by: z.string().nullable().meta({ description: 'Null: the engine decided it' }),
    reason: z.string(),
    error: z.object({ code: z.string(), message: z.string() }).nullable(),
    created_at: Timestamp.nullable(),
    ended_at: Timestamp.nullable(),
  })
  .meta({
    id: 'ModelOrder',
    description: 'A change of what a host has or holds in memory',
    example: {
      order_id: '5d3f0f7e-4b0a-4c8a-9c2a-0b8d3a1e7f10',
      host: 'local',
      model: 'llama3.1:8b',
      action: 'load',
      state: 'open',
      requested_by: 'admin',
      reason: 'load llama3.1:8b, asked for by admin',
      error: null,
      created_at: '2026-01-09T10:45:00.000Z',
      ended_at: null,
    },
  });
export type ModelOrderView = z.output<typeof ModelOrder>;
