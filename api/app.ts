import { OpenAPIHono } from '@hono/zod-openapi';
import type { Context, MiddlewareHandler } from 'hono';
import { noMeter } from '../metrics.js';
import { ProblemError } from '../contract/problems.js';
import { authenticate } from './auth/authenticate.js';
import { serveDocs } from './docs.js';
import type { AppDeps, AppEnv } from './env.js';
import { accessLog, refuseForeignHost, countRequests, refuseForeignOrigin, requestTimeout, securityHeaders } from './guards.js';
import { readJsonBody } from './json-body.js';
import { serveMetrics } from './metrics.js';
import { completeRoute, openApiDocument } from './openapi.js';
import { answerProblem, invalidRequest } from './problem.js';
import { routes } from './routes/index.js';

/**
 * The HTTP API as a function of requests, without a port: tests call `app.request(...)`, a main gives it to a server.
 * It keeps no state of tasks, so that any number of processes answer alike.
 */
export function createApp(deps: AppDeps): OpenAPIHono<AppEnv> {
  const { config } = deps;
  const app = new OpenAPIHono<AppEnv>({
    async defaultHook(result, c) {
      if (result.success) return;
      throw invalidRequest(
        result.target,
        result.error.issues,
        result.target === 'json' ? await c.req.json() : result.target === 'query' ? c.req.queries() : {},
      );
    },
  });
  app.use(accessLog(deps), countRequests(deps.meter ?? noMeter, routeLabel), securityHeaders, requestTimeout(config.requestTimeoutMs), refuseForeignOrigin);
  app.onError(answerProblem);
  for (const declared of routes) {
    const middleware: MiddlewareHandler<AppEnv>[] = [];
    if (declared.access !== 'public') middleware.push(authenticate(declared.access));
    if (declared.route.request?.body !== undefined) middleware.push(readJsonBody);
    if (declared.route.request?.query === undefined) middleware.push(refuseQuery);
    app.openapi({ ...completeRoute(declared), middleware }, declared.handler as never);
  }
  serveDocs(app, openApiDocument(config.apiKeyHeader), config.publicDocs ? refuseForeignHost : authenticate('read'));
  serveMetrics(app, config.publicMetrics ? null : authenticate('read'));
  app.notFound((c) => {
    throw nothingThere(c);
  });
  return app;
}

/** A route that declares no query takes none: a misspelt parameter is refused instead of ignored. */
const refuseQuery: MiddlewareHandler<AppEnv> = async (c, next) => {
  const names = Object.keys(c.req.queries());
  if (names.length > 0) {
    const errors = names.map((name) => ({
      path: `query.${name}`.slice(0, 300),
      expected: 'nothing of this name',
      got: 'a value',
      message: 'There is no parameter of this name.',
    }));
    throw new ProblemError('invalid_request', 'This address takes no query.', { errors });
  }
  await next();
};

function nothingThere(c: Context<AppEnv>): ProblemError {
  // `/tasks/batch` is an address of its own, not a task.
  const exact = routes.filter(({ route }) => route.path === c.req.path);
  const fitting = exact.length > 0 ? exact : routes.filter(({ route }) => patternOf(route.path).test(c.req.path));
  const methods = fitting.map(({ route }) => route.method.toUpperCase());
  if (methods.length === 0) return new ProblemError('not_found', 'There is nothing at this address: it may be mistyped, or what was there has been removed.');
  c.header('Allow', [...new Set(methods)].join(', '));
  return new ProblemError('method_not_allowed', `This address takes ${[...new Set(methods)].join(', ')}.`);
}

const patterns = routes.map(({ route }) => ({ path: route.path, method: route.method.toUpperCase(), pattern: patternOf(route.path) }));
const methods = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);

/** A request's route as a label: its pattern, never an address as somebody sent it. */
function routeLabel(method: string, path: string): { route: string; method: string } {
  const fits = patterns.filter(({ pattern }) => pattern.test(path));
  const route = (fits.find((declared) => declared.method === method) ?? fits[0])?.path;
  return { route: route ?? (path === '/metrics' ? path : 'other'), method: methods.has(method) ? method : 'other' };
}

function patternOf(path: string): RegExp {
  return new RegExp(`^${path.replaceAll(/\{[^}]+\}/g, '[^/]+')}$`);
}
