import type { RouteConfig, RouteHandler } from '@hono/zod-openapi';
import type { MiddlewareHandler } from 'hono';
import type { AppEnv } from './env.js';

/** Who may use a route. `public`: everybody. `read`: every caller. `write`: callers who may change things, so not viewers. `admin`: administrators. */
export type Access = 'public' | 'read' | 'write' | 'admin';

/** One endpoint. What is not declared here does not exist, and what does not say `public` needs credentials. */
export interface ApiRoute {
  readonly access: Access;
  readonly route: RouteConfig;
  // Handlers of different routes differ in what they take; `defineRoute` has checked each against its route.
  readonly handler: RouteHandler<never, AppEnv> | MiddlewareHandler<AppEnv>;
}

/** Declares an endpoint; its handler's answers are checked against the schemas of the route. Register it with one line in `routes/index.ts`. */
export function defineRoute<R extends RouteConfig>(access: Access, route: R, handler: RouteHandler<R, AppEnv>): ApiRoute {
  return { access, route, handler: handler as unknown as ApiRoute['handler'] };
}
