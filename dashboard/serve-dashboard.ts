import path from 'node:path';
import { Eta } from 'eta';
import type { Hono, MiddlewareHandler } from 'hono';
import { packageRoot } from '../config.js';
import { authenticate, callerOf } from '../api/auth/authenticate.js';
import type { AppEnv } from '../api/env.js';
import { readForm } from '../api/form-body.js';
import { refuseForeignHost, requireOwnPage } from '../api/guards.js';
import { answerProblem, toldProblem } from '../api/problem.js';
import { ProblemError, problemTable } from '../contract/problems.js';
import { serveAssets } from './assets.js';
import * as format from './format.js';
import { answerHtml, type Draw } from './html.js';
import { serveLive } from './live.js';
import { ownAddress } from './own-address.js';
import { navigation, type Page, type PageContent, type PageContext, type PageRequest } from './page.js';
import { pages } from './pages/index.js';
import { serveSignIn } from './sign-in.js';

/** A page within the frame that all of them have. */
type DrawFramed = (c: PageContext, page: Pick<Page, 'nav' | 'live' | 'ownStream' | 'scripts'>, content: FramedContent) => Response | Promise<Response>;

interface FramedContent extends PageContent {
  readonly view: string;
  /** what works badly at the moment, in sentences */
  readonly troubles: readonly string[];
  /** what became of a form that was sent, when it was refused */
  readonly refused?: ProblemError;
}

/**
 * Mounts the dashboard: pages for people who have signed in, the page where they do, and what pages load. People who ask for something that cannot be shown get
 * a page as well, and programs a problem as JSON.
 */
export function serveDashboard(app: Pick<Hono<AppEnv>, 'get' | 'post' | 'onError'>): void {
  const eta = new Eta({ views: path.join(packageRoot(), 'dashboard', 'views'), autoEscape: true, cache: true, varName: 'it' });
  const asset = serveAssets(app);
  const draw: Draw = (view, data) => eta.render(`./${view}`, { ...data, f: format, asset });
  const framed: DrawFramed = (c, page, { title, view, data, status, troubles, refused = null }) => {
    const { caller = null, config } = c.var;
    const frame = { title, page, navigation, caller, config, nowMs: Date.now(), url: new URL(c.req.url) };
    const body = draw(view, { ...data, ...frame });
    return answerHtml(c, draw('layout', { ...frame, troubles, refused, body, scripts: (page.scripts ?? []).map(asset) }), status);
  };
  app.onError((error, c) => (isForPeople(c) ? answerProblemPage(error, c, framed) : answerProblem(error, c)));
  serveSignIn(app, draw);
  serveLive(app, authenticate('read'));
  for (const page of pages) {
    app.get(page.path, refuseForeignHost, orSignIn, (c) => answerPage(c, page, framed));
    if (page.submit !== undefined) app.post(page.path, requireOwnPage, orSignIn, (c) => answerForm(c, page, framed));
  }
}

/** Whether a person looks at the answer: a browser that opens an address, or draws an open page anew. */
function isForPeople(c: PageContext): boolean {
  return /\btext\/html\b/i.test(c.req.header('accept') ?? '') && !c.req.path.startsWith('/api/');
}

/** Whoever has not signed in is led to the page where they do, and back afterwards. */
const orSignIn: MiddlewareHandler<AppEnv> = async (c, next) => {
  try {
    return await authenticate('read')(c, next);
  } catch (error) {
    if (!(error instanceof ProblemError) || error.code !== 'unauthorized') throw error;
    return toSignIn(c);
  }
};

function toSignIn(c: PageContext): Response {
  const { pathname, search } = new URL(c.req.url);
  return c.redirect(`/sign-in?to=${encodeURIComponent(pathname + search)}`, 303);
}

/** What was wrong, as a page with the navigation, where there is no page that could tell it. */
async function answerProblemPage(error: unknown, c: PageContext, framed: DrawFramed): Promise<Response> {
  const problem = toldProblem(error, c);
  if (problem.code === 'unauthorized') return toSignIn(c);
  const again = problemTable[problem.code].status === 503 && c.req.method === 'GET' ? ownAddress(c.req.path + new URL(c.req.url).search) : null;
  return framed(c, { nav: null, live: [] }, { ...problemContent(problem, again), view: 'problem', troubles: [] });
}

function problemContent(problem: ProblemError, again: string | null = null): PageContent {
  const { status, title } = problemTable[problem.code];
  return { title, data: { detail: problem.message, errors: problem.errors, again }, status };
}

/** @param refused a form of this page that was refused: the page is shown as it is, with the reason */
async function answerPage(c: PageContext, page: Page, framed: DrawFramed, refused?: ProblemError): Promise<Response> {
  const { services } = c.var;
  const request = requestOf(c);
  const [content, troubles] = await Promise.all([contentOf(page, request), services.troubles().catch(() => ['The database does not answer.'])]);
  const view = 'problem' in content ? 'problem' : page.view;
  return framed(c, page, { ...content, view, troubles, ...(refused === undefined ? {} : { refused, status: problemTable[refused.code].status }) });
}

/** Does what a form asks for and goes on to a page that says so, which can be loaded again without doing it twice. */
async function answerForm(c: PageContext, page: Page, framed: DrawFramed): Promise<Response> {
  try {
    checkAccess(page, requestOf(c));
    return c.redirect((await page.submit?.(requestOf(c), await readForm(c))) ?? page.path, 303);
  } catch (error) {
    return answerPage(c, page, framed, toldProblem(error, c));
  }
}

function requestOf(c: PageContext): PageRequest {
  const { services, config, log, requestId } = c.var;
  return { caller: callerOf(c), services, config, log, requestId, url: new URL(c.req.url), param: (name) => c.req.param(name) ?? '' };
}

/** @throws {ProblemError} forbidden */
function checkAccess(page: Page, { caller }: PageRequest): void {
  if (page.access === 'admin' && caller.role !== 'admin') throw new ProblemError('forbidden', 'Only administrators see this page.');
}

/** The page, or what was wrong with the request, as a page too. */
async function contentOf(page: Page, request: PageRequest): Promise<PageContent & { readonly problem?: true }> {
  try {
    checkAccess(page, request);
    return await page.load(request);
  } catch (error) {
    if (!(error instanceof ProblemError)) throw error;
    return { problem: true, ...problemContent(error) };
  }
}
