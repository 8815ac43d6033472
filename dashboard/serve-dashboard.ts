import path from 'node:path';
import { Eta } from 'eta';
import type { Hono, MiddlewareHandler } from 'hono';
import { packageRoot } from '../config.js';
import { authenticate, callerOf } from '../api/auth/authenticate.js';
import type { AppEnv } from '../api/env.js';
import { refuseForeignHost } from '../api/guards.js';
import { ProblemError, problemTable } from '../contract/problems.js';
import { type AssetUrl, serveAssets } from './assets.js';
import * as format from './format.js';
import { serveLive } from './live.js';
import { navigation, type Page, type PageContent, type PageContext, type PageRequest } from './page.js';
import { pages } from './pages/index.js';

const policy =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/** Draws views; every value is escaped unless a view says otherwise, and only the frame does, for what another view has drawn. */
export type Draw = (view: string, data: object) => string;

/** Mounts the dashboard: pages for people who have signed in, the page where they do, and what pages load. */
export function serveDashboard(app: Pick<Hono<AppEnv>, 'get'>): void {
  const eta = new Eta({ views: path.join(packageRoot(), 'dashboard', 'views'), autoEscape: true, cache: true, varName: 'it' });
  const asset = serveAssets(app);
  const draw: Draw = (view, data) => eta.render(`./${view}`, { ...data, f: format, asset });
  app.get('/sign-in', refuseForeignHost, (c) => {
    c.header('Content-Security-Policy', policy);
    return c.html(draw('sign-in', { version: c.var.config.version, to: ownAddress(c.req.query('to')) }));
  });
  serveLive(app, authenticate('read'));
  for (const page of pages) app.get(page.path, refuseForeignHost, orSignIn, (c) => answerPage(c, page, draw, asset));
}

/** Whoever has not signed in is led to the page where they do, and back afterwards. */
const orSignIn: MiddlewareHandler<AppEnv> = async (c, next) => {
  try {
    return await authenticate('read')(c, next);
  } catch (error) {
    if (!(error instanceof ProblemError) || error.code !== 'unauthorized') throw error;
    const { pathname, search } = new URL(c.req.url);
    return c.redirect(`/sign-in?to=${encodeURIComponent(pathname + search)}`, 303);
  }
};

async function answerPage(c: PageContext, page: Page, draw: Draw, asset: AssetUrl): Promise<Response> {
  const { services, config, log } = c.var;
  const caller = callerOf(c);
  const request: PageRequest = { caller, services, config, log, url: new URL(c.req.url), param: (name) => c.req.param(name) ?? '' };
  const [content, troubles] = await Promise.all([contentOf(page, request), services.troubles().catch(() => ['The database does not answer.'])]);
  const view = 'problem' in content ? 'problem' : page.view;
  const frame = { title: content.title, page, navigation, caller, config, nowMs: Date.now(), url: request.url };
  const body = draw(view, { ...content.data, ...frame });
  c.header('Content-Security-Policy', policy);
  return c.html(draw('layout', { ...frame, troubles, body, scripts: (page.scripts ?? []).map(asset) }), content.status ?? 200);
}

/** The page, or what was wrong with the request, as a page too. */
async function contentOf(page: Page, request: PageRequest): Promise<PageContent & { readonly problem?: true }> {
  try {
    if (page.access === 'admin' && request.caller.role !== 'admin') throw new ProblemError('forbidden', 'Only administrators see this page.');
    return await page.load(request);
  } catch (error) {
    if (!(error instanceof ProblemError)) throw error;
    const { status, title } = problemTable[error.code];
    return { problem: true, title, data: { detail: error.message, errors: error.errors }, status };
  }
}

/** An address of this server to go on to; anything else is left out, so that the sign-in leads nobody elsewhere. */
export function ownAddress(text: string | undefined): string {
  if (text === undefined || !text.startsWith('/')) return '/';
  const base = 'http://here.invalid';
  if (!URL.canParse(text, base)) return '/';
  const { origin, pathname, search } = new URL(text, base);
  return origin === base ? pathname + search : '/';
}
