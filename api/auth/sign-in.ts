import type { Context } from 'hono';
import type { SignInRequest } from '../../contract/schemas/sign-in.js';
import type { Credentials, OpenedSession } from '../../service/sessions.js';
import type { AppEnv } from '../env.js';
import { clearSessionCookie, sessionTokensOf, setSessionCookie } from './session-cookie.js';

export function credentialsOf({ user = '', password = '', key, ticket }: SignInRequest): Credentials {
  if (key !== undefined) return { kind: 'key', key };
  return ticket !== undefined ? { kind: 'ticket', ticket } : { kind: 'password', user, password };
}

/**
 * Opens a session and sets its cookie. The token is always a new one, and what this browser had before is over.
 * @throws {ProblemError} unauthorized, too_many_attempts
 */
export async function signIn(c: Context<AppEnv>, credentials: Credentials): Promise<OpenedSession> {
  const opened = await c.var.services.signIn(credentials, c.var.requestId);
  await c.var.services.signOut(sessionTokensOf(c), c.var.requestId);
  c.set('caller', opened.caller);
  setSessionCookie(c, opened.token);
  return opened;
}

/** Ends sessions, by default every one that the request came with, and takes the cookie away. */
export async function signOut(c: Context<AppEnv>, tokens: readonly string[] = sessionTokensOf(c)): Promise<void> {
  await c.var.services.signOut(tokens, c.var.requestId);
  clearSessionCookie(c);
}
