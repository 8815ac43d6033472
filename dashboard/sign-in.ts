import type { Hono } from 'hono';
import { sessionCallerOf } from '../api/auth/authenticate.js';
import { credentialsOf, signIn, signOut } from '../api/auth/sign-in.js';
import type { AppEnv } from '../api/env.js';
import { readForm } from '../api/form-body.js';
import { refuseForeignHost, requireOwnPage } from '../api/guards.js';
import { toldProblem } from '../api/problem.js';
import { ProblemError, problemTable } from '../contract/problems.js';
import { SignIn } from '../contract/schemas/sign-in.js';
import type { Caller } from '../service/caller.js';
import type { Credentials } from '../service/sessions.js';
import { answerHtml, type Draw } from './html.js';
import { ownAddress } from './own-address.js';
import type { PageContext } from './page.js';

/** What the page of the sign-in shows. */
interface SignInView {
  /** an address of this server to go on to */
  readonly to: string;
  /** who has signed in already */
  readonly current: Caller | null;
  /** a ticket that would sign in somebody else, and whom */
  readonly asked?: { readonly ticket: string; readonly userId: string };
  readonly problem?: ProblemError;
  /** what was written into the form, without secrets */
  readonly user?: string;
  readonly byKey?: boolean;
}

/** Serves `/sign-in` and `/sign-out`: forms that work without scripts, with the functions of the API's own routes behind them. */
export function serveSignIn(app: Pick<Hono<AppEnv>, 'get' | 'post'>, draw: Draw): void {
  const show = (c: PageContext, view: SignInView) =>
    answerHtml(c, draw('sign-in', { version: c.var.config.version, ...view }), view.problem === undefined ? 200 : problemTable[view.problem.code].status);

  app.get('/sign-in', refuseForeignHost, async (c) => show(c, { to: ownAddress(c.req.query('to')), current: await sessionCallerOf(c) }));

  app.post('/sign-in', requireOwnPage, async (c) => {
    const form = await readForm(c);
    const to = ownAddress(form.get('to'));
    const current = await sessionCallerOf(c);
    const ticket = form.get('ticket');
    try {
      const credentials = credentialsIn(form);
      if (credentials.kind === 'ticket' && current !== null && !form.has('sure')) {
        const holder = await c.var.services.ticketHolder(credentials.ticket);
        if (holder === null) return c.redirect(to, 303);
        // A link from anywhere may hold a ticket: nobody is to work as somebody else without knowing.
        if (holder.userId !== current.userId) return await show(c, { to, current, asked: { ticket: credentials.ticket, userId: holder.userId } });
      }
      await signIn(c, credentials);
      return c.redirect(to, 303);
    } catch (error) {
      const problem = toldProblem(error, c);
      // Whoever has signed in needs no ticket.
      if (ticket !== null && current !== null && problem.code === 'unauthorized') return c.redirect(to, 303);
      return show(c, { to, current: null, problem, user: form.get('user') ?? '', byKey: (form.get('key') ?? '') !== '' });
    }
  });

  app.post('/sign-out', requireOwnPage, async (c) => {
    await signOut(c);
    return c.redirect('/sign-in', 303);
  });
}

/** @throws {ProblemError} invalid_request when there is nothing to sign in with */
function credentialsIn(form: URLSearchParams): Credentials {
  const text = (name: string) => (form.get(name) ?? '').trim();
  const given =
    text('ticket') !== ''
      ? { ticket: text('ticket') }
      : text('key') !== ''
        ? { key: text('key') }
        : { user: text('user'), password: form.get('password') ?? '' };
  const parsed = SignIn.safeParse(given);
  if (!parsed.success) throw new ProblemError('invalid_request', 'Give your user name and password, or an API key.');
  return credentialsOf(parsed.data);
}
