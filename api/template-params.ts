import { z } from '@hono/zod-openapi';

// Any text is taken here: what is no name of a template is answered like a name that is not there.
export const TemplateParams = z.object({ name: z.string().meta({ description: 'Name of a template', example: 'ollama-inference' }) });
