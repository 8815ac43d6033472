import type { Context, MiddlewareHandler } from 'hono';
import { ProblemError } from '../../contract/problems.js';
import type { Caller } from '../../service/caller.js';
import type { Access } from '../define-route.js';
import type { AppEnv } from '../env.js';

/** Settles who asks, from the configured header or `Authorization: Bearer`, and whether they may use a route of this access. */
export function authenticate(access: Exclude<Access, 'public'>): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    const key = presentedKey(c);
    const caller = await c.var.services.verifyKey(key);
    if (caller === null) throw new ProblemError('unauthorized', `Send a valid API key in the header ${c.var.config.apiKeyHeader} or as Authorization: Bearer.`);
    if (!mayUse(caller, access)) throw new ProblemError('forbidden', `This needs more than the role ${caller.role}.`);
    c.set('caller', caller);
    c.set('stillValid', async () => (await c.var.services.verifyKey(key)) !== null);
    await next();
  };
}

/** The caller of a route that is not public. */
export function callerOf(c: Context<AppEnv>): Caller {
  if (c.var.caller === undefined) throw new Error('a handler of a public route asked for its caller');
  return c.var.caller;
}

/** The key as it came; empty when there is none, and when two differ, since nobody can say which is meant. */
function presentedKey(c: Context<AppEnv>): string {
  const own = c.req.header(c.var.config.apiKeyHeader);
  const bearer = /^Bearer +(\S+)$/i.exec(c.req.header('authorization') ?? '')?.[1];
  if (own !== undefined && bearer !== undefined && own !== bearer) return '';
  return own ?? bearer ?? '';
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
