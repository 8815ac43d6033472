import { OpenAPIHono } from '@hono/zod-openapi';
import { BatchItem } from '../contract/schemas/many.js';
import { cookieName } from './auth/session-cookie.js';
import type { ApiRoute } from './define-route.js';
import { problems } from './problem.js';
import { routes } from './routes/index.js';

/** Version of the API, which changes when an answer or a request does; not the version of the program. */
const apiVersion = '1.0.0';

/** A route as it is documented and served: what every endpoint of its access can answer besides its own is added here, in one place. */
export function completeRoute({ access, route }: ApiRoute): ApiRoute['route'] {
  const open = access === 'public';
  const usual = [
    problems('invalid_request', 'headers_too_large'),
    // A public route that asks something of the house says itself how that can fail.
    ...(open ? [] : [problems('unauthorized'), problems('too_many_attempts'), problems('unexpected'), problems('unavailable')]),
    // A viewer is refused what changes something, a page of another site all that is not safe, and a session what no page of ours has asked for.
    ...(open && route.method === 'get' ? [] : [problems('forbidden')]),
  ];
  const responses = { ...(route.responses as Readonly<Record<string, { readonly description: string }>>) };
  for (const [status, response] of usual.flatMap((each) => Object.entries(each))) {
    const own = responses[status];
    if (own === undefined) responses[status] = response;
    else if (!own.description.includes(response.description)) responses[status] = { ...own, description: `${own.description} ${response.description}` };
  }
  return { ...route, security: open ? [] : [{ apiKey: [] }, { bearer: [] }, { session: [] }, { password: [] }], responses };
}

/** The OpenAPI 3.1 document of every route. */
export function openApiDocument(apiKeyHeader: string): object {
  const { openAPIRegistry: registry, getOpenAPI31Document } = new OpenAPIHono();
  registry.registerComponent('securitySchemes', 'apiKey', {
    type: 'apiKey',
    in: 'header',
    name: apiKeyHeader,
    description: 'An API key; the first one is in `admin.key` of the installation',
  });
  registry.registerComponent('securitySchemes', 'bearer', { type: 'http', scheme: 'bearer', description: 'The same API key' });
  registry.registerComponent('securitySchemes', 'session', {
    type: 'apiKey',
    in: 'cookie',
    name: cookieName,
    description: 'What a sign-in sets in a browser. A change has to come from a page of this server, by its `Origin` or `Sec-Fetch-Site`',
  });
  registry.registerComponent('securitySchemes', 'password', { type: 'http', scheme: 'basic', description: 'User and password' });
  // Items of a batch are checked one by one, so that no route's schema holds theirs.
  registry.register('BatchItem', BatchItem);
  for (const declared of routes) registry.registerPath(completeRoute(declared));
  return getOpenAPI31Document({
    openapi: '3.1.0',
    info: {
      title: 'AI Task Orchestra',
      version: apiVersion,
      description: 'Durable tasks on self-hosted models. Every error is `application/problem+json` (RFC 9457) with a `code` that does not change.',
      license: { name: 'MIT', url: 'https://opensource.org/license/mit' },
    },
    tags: [
      { name: 'tasks', description: 'Create, watch and steer tasks' },
      { name: 'queue', description: 'What waits, in which order, and what is held back' },
      { name: 'templates', description: 'What tasks are made of' },
      { name: 'events', description: 'What happens, as it happens' },
      { name: 'reports', description: 'Tasks as files' },
      { name: 'models', description: 'What the model servers have' },
      { name: 'health', description: 'How the service is' },
      { name: 'sign-in', description: 'Sessions of the dashboard, and users with passwords' },
      { name: 'system', description: 'What administrators keep and restore' },
    ],
    servers: [{ url: '/', description: 'This server' }],
  });
}

/** The document as `openapi.json` holds it, for the default header of API keys. */
export function openApiText(): string {
  return `${JSON.stringify(openApiDocument('X-API-Key'), null, 2)}\n`;
}
