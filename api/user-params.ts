import { z } from '@hono/zod-openapi';
import { userIdForm } from '../contract/users.js';

// Any text is taken here: what is no user's name names none, and is answered like a user who is not there.
export const UserParams = z.object({
  id: z
    .string()
    .transform((text) => (userIdForm.test(text) ? text : ''))
    .meta({ type: 'string', description: 'Name of a user', example: 'ann' }),
});
