import { randomUUID } from 'node:crypto';
import type { Context, MiddlewareHandler } from 'hono';
import type { Meter } from '../contract/metrics.js';
import { ProblemError } from '../contract/problems.js';
import { within } from '../service/within.js';
import type { AppDeps, AppEnv } from './env.js';

/** A request id that a caller or proxy may choose, so that it can be found in their log and in ours. */
const givenId = /^[A-Za-z0-9_.:-]{8,64}$/;

/** Gives the request its id, hands the dependencies down, and writes one line to the log when it is answered. */
export function accessLog({ services, log, config }: AppDeps): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    const startedMs = performance.now();
    const given = c.req.header('x-request-id');
    const requestId = given !== undefined && givenId.test(given) ? given : randomUUID();
    c.set('requestId', requestId);
    c.set('services', services);
    c.set('config', config);
    c.set('log', log.child({ request_id: requestId }));
    await next();
    c.header('X-Request-Id', requestId);
    // Of a task that was just made, the answer knows the id.
    const task = /\/tasks\/([0-9a-fA-F-]{36})/.exec(`${c.req.path} ${c.res.headers.get('Location') ?? ''}`)?.[1];
    c.var.log.info(
      {
        method: c.req.method,
        path: c.req.path.slice(0, 300),
        status: c.res.status,
        milliseconds: Math.round(performance.now() - startedMs),
        ...(c.var.caller === undefined ? {} : { user: c.var.caller.userId, key_id: c.var.caller.keyId }),
        ...(task === undefined ? {} : { task_id: task.toLowerCase() }),
      },
      'request',
    );
  };
}

/** Counts requests and how long each took to be answered; a stream counts until it begins. */
export function countRequests(meter: Meter, labelOf: (method: string, path: string) => { route: string; method: string }): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    const startedMs = performance.now();
    await next();
    const labels = labelOf(c.req.method, c.req.path);
    meter.count('http_requests_total', { ...labels, status: String(c.res.status) });
    meter.observe('http_request_duration_seconds', (performance.now() - startedMs) / 1_000, labels);
  };
}

const strictPolicy = "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** Headers of every answer; a page that needs more sets its own `Content-Security-Policy`. */
export const securityHeaders: MiddlewareHandler<AppEnv> = async (c, next) => {
  await next();
  const headers: Readonly<Record<string, string>> = {
    'Content-Security-Policy': strictPolicy,
    'X-Content-Type-Options': 'nosniff',
    'X-Frame-Options': 'DENY',
    'Referrer-Policy': 'no-referrer',
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Cache-Control': 'no-store',
  };
  for (const [name, value] of Object.entries(headers)) if (!c.res.headers.has(name)) c.header(name, value);
};

/** Answers 503 when a handler takes too long; what it does goes on, and an idempotency key makes a repeat safe. */
export function requestTimeout(timeoutMs: number): MiddlewareHandler<AppEnv> {
  return async (_c, next) => {
    let late = true;
    try {
      await within(
        timeoutMs,
        'The request',
        next().finally(() => {
          late = false;
        }),
      );
    } catch (cause) {
      if (!late) throw cause;
      throw new ProblemError('unavailable', `No answer within ${timeoutMs} ms; try again.`, { cause });
    }
  };
}

const safeMethods = new Set(['GET', 'HEAD', 'OPTIONS']);

/** Refuses requests that another site's page makes a browser send: a change whose `Origin` is not this server. */
export const refuseForeignOrigin: MiddlewareHandler<AppEnv> = async (c, next) => {
  const origin = c.req.header('origin');
  const foreign = c.req.header('sec-fetch-site') === 'cross-site' || (origin !== undefined && hostOfOrigin(origin) !== hostHeader(c.req));
  if (foreign && !safeMethods.has(c.req.method)) throw new ProblemError('forbidden', 'Requests from pages of other sites are not accepted.');
  await next();
};

/** Refuses to show a page under a foreign name: a name that somebody points at this address (DNS rebinding) would let their page read ours. */
export const refuseForeignHost: MiddlewareHandler<AppEnv> = async (c, next) => {
  checkHost(c);
  await next();
};

/** @throws {ProblemError} forbidden for a name that this server is not known under */
export function checkHost(c: Context<AppEnv>): void {
  if (!isKnownHost(hostHeader(c.req), c.var.config.allowedHosts)) throw new ProblemError('forbidden', foreignHost);
}

/** What is told to whoever asks under a name that this server is not known under. */
export const foreignHost = 'This server is not known under the name that was asked for; an administrator can allow it.';

/** Whether this server is known under the name of a `Host` header. @param allowed as in the configuration: names without a port, `*` for any */
export function isKnownHost(host: string, allowed: readonly string[]): boolean {
  const name = host.replace(/:\d+$/, '').toLowerCase();
  return allowed.includes('*') || loopbackNames.has(name) || allowed.includes(name);
}

/**
 * Whether a browser has sent a request, as far as its headers tell. `Sec-Fetch-*` comes over TLS and to this machine alone, and a page that reads from its own
 * name sends no `Origin`, so that what every browser adds is looked at too; programs that collect metrics send none of these.
 */
export function isFromBrowser(header: (name: string) => string | null | undefined): boolean {
  const has = (name: string) => (header(name) ?? null) !== null;
  return ['sec-fetch-site', 'sec-fetch-mode', 'origin', 'referer', 'accept-language', 'cookie'].some(has) || /\bMozilla\//.test(header('user-agent') ?? '');
}

/** As {@link refuseForeignHost}, for what programs read under whatever name they know this server by. */
export const refuseForeignHostOfBrowsers: MiddlewareHandler<AppEnv> = async (c, next) => {
  if (isFromBrowser((name) => c.req.header(name))) checkHost(c);
  await next();
};

/** Takes a form only from a page of this server, since a browser would send it along from anywhere. */
export const requireOwnPage: MiddlewareHandler<AppEnv> = async (c, next) => {
  checkHost(c);
  if (!isFromOwnPage(c)) throw new ProblemError('forbidden', 'Forms are taken from pages of this server only.');
  await next();
};

/** Whether the browser says that a page of this server has sent the request. */
function isFromOwnPage(c: Context<AppEnv>): boolean {
  const origin = c.req.header('origin');
  return origin === undefined ? c.req.header('sec-fetch-site') === 'same-origin' : hostOfOrigin(origin) === hostHeader(c.req);
}

/**
 * Refuses a cookie where it is not sure that a page of ours has sent it: browsers send it along with whatever a page asks for. A change has to say that it
 * comes from here; of the rest only following a link may come from elsewhere.
 * @throws {ProblemError} forbidden
 */
export function checkCookieUse(c: Context<AppEnv>): void {
  checkHost(c);
  const site = c.req.header('sec-fetch-site');
  const elsewhere = (site === 'cross-site' || site === 'same-site') && c.req.header('sec-fetch-mode') !== 'navigate';
  if (safeMethods.has(c.req.method) ? elsewhere : !isFromOwnPage(c)) {
    throw new ProblemError('forbidden', 'With a session, requests are taken from pages of this server only; programs use an API key.');
  }
}

const loopbackNames = new Set(['localhost', '127.0.0.1', '[::1]']);

function hostHeader(request: { header(name: string): string | undefined; url: string }): string {
  return request.header('host') ?? new URL(request.url).host;
}

function hostOfOrigin(origin: string): string | null {
  return URL.canParse(origin) ? new URL(origin).host : null;
}
