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
    context_length: z.int().nullable(),
    queue_depth: z.int().min(0).meta({ description: 'Steps that wait for this model' }),
    last_used_at: Timestamp.nullable(),
    expires_at: Timestamp.nullable().meta({ description: 'When the server drops it unless it is used again' }),
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
      context_length: 4096,
      queue_depth: 3,
      last_used_at: '2026-01-09T10:45:00.000Z',
      expires_at: '2026-01-09T10:55:00.000Z',
    },
  });
export type ModelView = z.output<typeof Model>;

export const ModelList = z.object({ items: z.array(Model) }).meta({ id: 'ModelList', description: 'Every model of every host' });
