import type { z } from '@hono/zod-openapi';

/** A JSON answer with its schema. */
export function json<S extends z.ZodType>(schema: S, description: string) {
  return { description, content: { 'application/json': { schema } } };
}

/** A JSON body, always required: without `required` a request that lacks its content type would pass as an empty object. */
export function jsonBody<S extends z.ZodType>(schema: S, description: string) {
  return { required: true as const, description, content: { 'application/json': { schema } } };
}
