import { z } from '@hono/zod-openapi';

// Any text is taken here: what is no number names no checkpoint, and is answered like a number that is not there.
export const CheckpointParams = z.object({
  checkpointId: z
    .string()
    .transform((text) => (/^[1-9]\d{0,8}$/.test(text) ? Number(text) : 0))
    .meta({ type: 'integer', minimum: 1, description: 'Number of a checkpoint', example: 3 }),
});
