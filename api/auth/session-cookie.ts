import type { Context } from 'hono';
import type { AppEnv } from '../env.js';

/** Name of the cookie that holds the token of a session. */
export const cookieName = 'orchestra_session';
/** The longest that a session lasts; when it ends before is the database's to say. */
const maxAgeSeconds = 7 * 24 * 3_600;
/** Each token that is looked at may cost a query. */
const tokensMax = 8;

/**
 * The tokens as they came, each once. A browser sends several cookies of one name where another server of the same domain, or an older one for a part of the
 * addresses, has set one too; it does not say which is whose.
 */
export function sessionTokensOf(c: Context<AppEnv>): readonly string[] {
  const values = (c.req.header('cookie') ?? '')
    .split(';')
    .map((pair) => pair.trim())
    .filter((pair) => pair.startsWith(`${cookieName}=`))
    .map((pair) => pair.slice(cookieName.length + 1));
  return [...new Set(values)].slice(0, tokensMax);
}

export function setSessionCookie(c: Context<AppEnv>, token: string): void {
  c.header('Set-Cookie', `${cookieName}=${token}; Max-Age=${maxAgeSeconds}${attributes(c)}`);
}

export function clearSessionCookie(c: Context<AppEnv>): void {
  c.header('Set-Cookie', `${cookieName}=; Max-Age=0${attributes(c)}`);
}

/** No script reads it, and no page of another site sends it along. Who lies about the protocol harms nobody but the own sign-in. */
function attributes(c: Context<AppEnv>): string {
  const safe = new URL(c.req.url).protocol === 'https:' || /^https\b/i.test(c.req.header('x-forwarded-proto') ?? '');
  return `; Path=/; HttpOnly; SameSite=Lax${safe ? '; Secure' : ''}`;
}
