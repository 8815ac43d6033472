import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { Eta } from 'eta';
import type { Hono } from 'hono';
import { packageRoot } from '../config.js';
import type { AppEnv } from '../api/env.js';
import { refuseForeignHost } from '../api/guards.js';

const views = path.join(packageRoot(), 'dashboard', 'views');

const policy = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** How long what was seen is shown to others: whoever loads the page without a key shall not make the parts work. */
const seenMs = 1_000;

/**
 * The page at `/`: how the parts are, how many tasks there are, how to submit one. It needs no key and no script, so it shows
 * neither tasks nor models nor addresses of other machines.
 */
export function serveStatusPage(app: Pick<Hono<AppEnv>, 'get'>): void {
  const eta = new Eta({ views, autoEscape: true, cache: true });
  const seen = recently<Awaited<ReturnType<typeof look>>>(seenMs);
  app.get('/', refuseForeignHost, async (c) => {
    const { config } = c.var;
    const { health, counts } = await seen(() => look(c.var));
    const parts = Object.entries(health.checks).map(([name, check]) => ({ name: name.replaceAll('_', ' '), ...check }));
    const page = eta.render('./status', {
      status: health.status,
      version: health.version,
      parts,
      counts,
      temporalUi: config.temporalUi,
      apiKeyHeader: config.apiKeyHeader,
      baseUrl: new URL(c.req.url).origin,
    });
    c.header('Content-Security-Policy', policy);
    return c.html(page);
  });
  app.get('/status.css', async (c) => c.body(await readFile(path.join(views, 'status.css'), 'utf8'), 200, { 'Content-Type': 'text/css; charset=utf-8' }));
}

async function look({ services, log }: AppEnv['Variables']) {
  const counts = services.countTasks().catch((error: unknown) => {
    log.warn({ err: error }, 'tasks not counted');
    return null;
  });
  return { health: await services.health(), counts: await counts };
}

/** Repeats an answer for a while instead of working it out again. */
function recently<T>(keptMs: number): (work: () => Promise<T>) => Promise<T> {
  let latest: { readonly answer: Promise<T>; readonly untilMs: number } | undefined;
  return async (work) => {
    if (latest === undefined || latest.untilMs < performance.now()) latest = { answer: work(), untilMs: performance.now() + keptMs };
    return latest.answer;
  };
}
