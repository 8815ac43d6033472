import { z } from '@hono/zod-openapi';
import { LockName } from '../contract/schemas/task.js';

export const LockParams = z.object({ name: LockName });
