import type { Context, MiddlewareHandler } from 'hono';
import { ProblemError } from '../../contract/problems.js';
import type { Caller } from '../../service/caller.js';
import type { Access } from '../define-route.js';
import type { AppEnv } from '../env.js';
import { checkCookieUse } from '../guards.js';
import { sessionTokensOf } from './session-cookie.js';

/** What a request came with to say who asks. */
type Presented =
  | { readonly kind: 'key'; readonly key: string }
  | { readonly kind: 'session'; readonly tokens: readonly string[] }
  | { readonly kind: 'password'; readonly user: string; readonly password: string };

/**
 * Settles who asks, and whether they may use a route of this access: from an API key in the configured header or as `Authorization: Bearer`, else from the
 * cookie of a session, else from `Authorization: Basic` with user and password.
 */
export function authenticate(access: Exclude<Access, 'public'>): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    const presented = presentedBy(c);
    if (presented.kind === 'session') checkCookieUse(c);
    const caller = await verify(c, presented);
    if (caller === null) throw new ProblemError('unauthorized', refusal(c, presented));
    if (!mayUse(caller, access)) throw new ProblemError('forbidden', `This needs more than the role ${caller.role}.`);
    c.set('caller', caller);
    c.set('stillValid', async () => {
      const now = await verify(c, presented);
      return now !== null && isSame(now, caller);
    });
    await next();
  };
}

/**
 * Who has the session that a request came with, for pages that show something to everybody; null: nobody, or what counts before a session says who asks.
 * @throws {ProblemError} forbidden when it is not sure that a page of ours has sent the cookie
 */
export async function sessionCallerOf(c: Context<AppEnv>): Promise<Caller | null> {
  const presented = presentedBy(c);
  if (presented.kind !== 'session') return null;
  checkCookieUse(c);
  return verify(c, presented);
}

/** The caller of a route that is not public. */
export function callerOf(c: Context<AppEnv>): Caller {
  if (c.var.caller === undefined) throw new Error('a handler of a public route asked for its caller');
  return c.var.caller;
}

function presentedBy(c: Context<AppEnv>): Presented {
  const key = presentedKey(c);
  if (key !== null) return { kind: 'key', key };
  // Before a password, since a browser sends those of a proxy in front of us along.
  const tokens = sessionTokensOf(c);
  if (tokens.length > 0) return { kind: 'session', tokens };
  const basic = /^Basic +([A-Za-z0-9+/]+=*)$/i.exec(c.req.header('authorization') ?? '')?.[1];
  if (basic === undefined) return { kind: 'key', key: '' };
  const text = Buffer.from(basic, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  return colon < 1 ? { kind: 'key', key: '' } : { kind: 'password', user: text.slice(0, colon), password: text.slice(colon + 1) };
}

/** The key as it came; null when there is none, and empty when two differ, since nobody can say which is meant. */
function presentedKey(c: Context<AppEnv>): string | null {
  const own = c.req.header(c.var.config.apiKeyHeader);
  const bearer = /^Bearer +(\S+)$/i.exec(c.req.header('authorization') ?? '')?.[1];
  if (own !== undefined && bearer !== undefined && own !== bearer) return '';
  return own ?? bearer ?? null;
}

async function verify(c: Context<AppEnv>, presented: Presented): Promise<Caller | null> {
  const { services, requestId } = c.var;
  switch (presented.kind) {
    case 'key':
      return services.verifyKey(presented.key);
    case 'session':
      return onlyOne(await Promise.all(presented.tokens.map((token) => services.verifySession(token))));
    case 'password':
      return services.verifyPassword(presented.user, presented.password, requestId);
  }
}

/** The one whom all valid sessions of a request stand for; null where they stand for different people, since nobody can say who is meant. */
function onlyOne(callers: readonly (Caller | null)[]): Caller | null {
  const valid = callers.filter((caller) => caller !== null);
  const [first] = valid;
  return first !== undefined && valid.every((caller) => isSame(caller, first)) ? first : null;
}

/** Whether two callers may see and do the same. */
const isSame = (one: Caller, other: Caller) => one.userId === other.userId && one.role === other.role;

function refusal(c: Context<AppEnv>, { kind }: Presented): string {
  switch (kind) {
    case 'key':
      return `Send a valid API key in the header ${c.var.config.apiKeyHeader} or as Authorization: Bearer.`;
    case 'session':
      return 'The session has ended: sign in again.';
    case 'password':
      return 'There is no user with this name and this password.';
  }
}

function mayUse(caller: Caller, access: Exclude<Access, 'public'>): boolean {
  switch (access) {
    case 'read':
      return true;
    case 'write':
      return caller.role !== 'viewer';
    case 'admin':
      return caller.role === 'admin';
  }
}
