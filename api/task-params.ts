import { z } from '@hono/zod-openapi';

// Any text is taken here: what is no id names no task, and is answered like an id that is not there.
export const TaskParams = z.object({
  taskId: z.string().meta({ description: 'Id of a task, also with the prefix `task-`', example: '8f14e45f-ceea-467f-a0e6-7c1f9d2b3a44' }),
});
