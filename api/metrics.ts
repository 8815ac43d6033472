import type { OpenAPIHono } from '@hono/zod-openapi';
import type { MiddlewareHandler } from 'hono';
import type { AppEnv } from './env.js';
import { foreignHost, isFromBrowser, isKnownHost, refuseForeignHostOfBrowsers } from './guards.js';

const contentType = 'text/plain; version=0.0.4; charset=utf-8';

/** Serves the metrics at /metrics of the API; `guard` settles who may. Not part of the document: its format is Prometheus'. */
export function serveMetrics(app: OpenAPIHono<AppEnv>, guard: MiddlewareHandler<AppEnv> | null): void {
  const answer: MiddlewareHandler<AppEnv> = async (c) => c.body(await c.var.services.metrics(), 200, { 'Content-Type': contentType });
  if (guard === null) app.get('/metrics', refuseForeignHostOfBrowsers, answer);
  else app.get('/metrics', refuseForeignHostOfBrowsers, guard, answer);
}

/**
 * Answers at /metrics and nowhere else, for a port of its own.
 * @param allowedHosts names under which browsers may read it, beside those of the loopback
 */
export function metricsApp(text: () => Promise<string>, allowedHosts: readonly string[]): { fetch(request: Request): Promise<Response> } {
  return {
    async fetch(request) {
      if (new URL(request.url).pathname !== '/metrics') return new Response('There is only /metrics here.\n', { status: 404 });
      if (request.method !== 'GET' && request.method !== 'HEAD') return new Response(null, { status: 405, headers: { Allow: 'GET, HEAD' } });
      const host = request.headers.get('host') ?? new URL(request.url).host;
      if (isFromBrowser((name) => request.headers.get(name)) && !isKnownHost(host, allowedHosts)) return new Response(`${foreignHost}\n`, { status: 403 });
      try {
        return new Response(await text(), { headers: { 'Content-Type': contentType, 'X-Content-Type-Options': 'nosniff', 'Cache-Control': 'no-store' } });
      } catch {
        return new Response('The database does not answer.\n', { status: 503, headers: { 'Retry-After': '5' } });
      }
    },
  };
}
