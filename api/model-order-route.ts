import { createRoute, z } from '@hono/zod-openapi';
import { ModelOrder, OrderModel } from '../contract/schemas/model.js';
import { callerOf } from './auth/authenticate.js';
import { defineRoute } from './define-route.js';
import { json, jsonBody } from './json-content.js';
import { problems } from './problem.js';

const ModelParams = z.object({ name: z.string().meta({ description: 'Name of a model or an alias, URL-encoded', example: 'llama3.2%3A1b' }) });

/** A route by which administrators ask a host for a change of its models. */
export function modelOrderRoute(action: 'load' | 'unload' | 'pull', summary: string, description: string) {
  return defineRoute(
    'admin',
    createRoute({
      method: 'post',
      path: `/api/v1/models/{name}/${action}`,
      operationId: `${action}Model`,
      tags: ['models'],
      summary,
      description,
      request: { params: ModelParams, body: jsonBody(OrderModel, 'Where and how, or `{}`') },
      responses: {
        202: json(ModelOrder, 'It is ordered, or as it was asked for already.'),
        ...problems(
          'invalid_json',
          // What is not installed is not loaded either; a pull unloads nothing.
          ...(action === 'unload' ? [] : (['unknown_model'] as const)),
          ...(action === 'pull' ? [] : (['model_in_use'] as const)),
          'model_busy',
          'payload_too_large',
          'unsupported_media_type',
          'invalid_request',
          'model_refused',
          'host_unavailable',
        ),
      },
    }),
    async (c) => c.json(await c.var.services.orderModel(callerOf(c), action, c.req.valid('param').name, c.req.valid('json')), 202),
  );
}
