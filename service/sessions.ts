import { createHash, randomBytes } from 'node:crypto';
import { ProblemError } from '../contract/problems.js';
import type { CurrentCallerView, SignInTicketView } from '../contract/schemas/sign-in.js';
import type { AuditEntry } from '../db/audit.js';
import {
  endSession,
  extendSession,
  findSession,
  findTicketHolder,
  insertTicket,
  openSession,
  type SessionRow,
  type SessionSource,
  type TicketHolder,
} from '../db/sessions.js';
import { findUser } from '../db/users.js';
import type { ApiKeyUseCases } from './api-keys.js';
import { apiKeyOf, type Caller } from './caller.js';
import type { PasswordChecks } from './check-password.js';
import type { ServiceDeps } from './deps.js';
import { createVerdicts } from './verdicts.js';

/** What somebody signs in with. */
export type Credentials =
  | { readonly kind: 'password'; readonly user: string; readonly password: string }
  | { readonly kind: 'key'; readonly key: string }
  | { readonly kind: 'ticket'; readonly ticket: string };

export interface OpenedSession {
  /** shown this once and stored nowhere */
  readonly token: string;
  readonly expiresAt: Date;
  readonly caller: Caller;
}

export interface SessionUseCases {
  /**
   * Opens a session of a day, which goes on to a week while it is used. It has the rights that its user or its API key has at each moment, and ends with either.
   * @throws {ProblemError} unauthorized, in the same words whatever is wrong; too_many_attempts
   */
  signIn(credentials: Credentials, requestId?: string): Promise<OpenedSession>;
  /** Who has this session; null: nobody, or not any more. A session that ends may work for 5 s more on another process. */
  verifySession(token: string): Promise<Caller | null>;
  /** Ends sessions; what is none, or over, is left alone. */
  signOut(tokens: readonly string[], requestId?: string): Promise<void>;
  /** Whom a ticket would sign in now, without using it; null: it is used, too old, or none. */
  ticketHolder(ticket: string): Promise<TicketHolder | null>;
  /** Who asks, with what and until when. */
  currentCaller(caller: Caller): Promise<CurrentCallerView>;
  /**
   * A text that opens one session with the rights of the caller's API key.
   * @throws {ProblemError} forbidden when the caller came with something else
   */
  createTicket(caller: Caller, options?: { readonly minutes?: number; readonly requestId?: string }): Promise<SignInTicketView>;
}

/** The kind and 32 random bytes as 43 characters of base64url: `ors_` a session, `ort_` a ticket. Logs hide what has these forms. */
const newSecret = (kind: 'ors' | 'ort') => `${kind}_${randomBytes(32).toString('base64url')}`;
const secretForm = /^or[st]_[A-Za-z0-9_-]{43}$/;
const ticketMinutes = 10;

export interface Sessions extends SessionUseCases {
  /** Forgets verdicts on a user that has changed. */
  forgetUser(id: string): void;
}

export function sessionUseCases({ sql, log }: Pick<ServiceDeps, 'sql' | 'log'>, keys: Pick<ApiKeyUseCases, 'verifyKey'>, passwords: PasswordChecks): Sessions {
  const verdicts = createVerdicts<Caller>();

  async function sourceOf(credentials: Credentials, requestId?: string): Promise<SessionSource | null> {
    switch (credentials.kind) {
      case 'password': {
        const user = await passwords.prove(credentials.user, credentials.password, requestId);
        return user === null ? null : { userId: user.id, password: user.hash };
      }
      case 'key': {
        const caller = await keys.verifyKey(credentials.key);
        return caller === null ? null : { keyId: caller.keyId };
      }
      case 'ticket':
        return secretForm.test(credentials.ticket) ? { ticket: hashOf(credentials.ticket) } : null;
    }
  }

  return {
    async signIn(credentials, requestId) {
      const source = await sourceOf(credentials, requestId);
      const token = newSecret('ors');
      const hash = hashOf(token);
      const entryOf = ({ userId, keyId }: SessionRow): AuditEntry => ({
        action: 'user_authenticated',
        userId,
        details: { by: credentials.kind, session: sessionId(hash), ...(keyId === null ? {} : { key_id: keyId }) },
        ...asked(requestId),
      });
      const session = source === null ? null : await openSession(sql, hash, source, entryOf);
      if (session === null) throw new ProblemError('unauthorized', refusals[credentials.kind]);
      return { token, expiresAt: session.expiresAt, caller: callerOf(hash, session) };
    },
    async verifySession(token) {
      if (!secretForm.test(token)) return null;
      const hash = hashOf(token);
      const known = verdicts.get(hash);
      if (known !== undefined) return known;
      const session = await findSession(sql, hash);
      if (session === null) return null;
      const caller = callerOf(hash, session);
      verdicts.keep(hash, caller);
      extendSession(sql, hash).catch((error: unknown) => log.warn({ err: error, key_id: caller.keyId }, 'a session is not extended'));
      return caller;
    },
    async signOut(tokens, requestId) {
      for (const token of tokens.filter((each) => secretForm.test(each))) {
        const hash = hashOf(token);
        await endSession(sql, hash, ({ userId }) => ({ action: 'user_signed_out', userId, details: { session: sessionId(hash) }, ...asked(requestId) }));
        const id = `session:${sessionId(hash)}`;
        verdicts.forget(({ keyId }) => keyId === id);
      }
    },
    async ticketHolder(ticket) {
      return secretForm.test(ticket) ? findTicketHolder(sql, hashOf(ticket)) : null;
    },
    async currentCaller(caller) {
      const user = await findUser(sql, caller.userId);
      return {
        user_id: caller.userId,
        role: caller.role,
        by: caller.sessionEndsAt !== undefined ? 'session' : apiKeyOf(caller) !== null ? 'key' : 'password',
        expires_at: caller.sessionEndsAt?.toISOString() ?? null,
        has_password: user !== null && user.disabledAt === null,
      };
    },
    async createTicket(caller, { minutes = ticketMinutes, requestId } = {}) {
      const keyId = apiKeyOf(caller);
      if (keyId === null) throw new ProblemError('forbidden', 'A ticket is made with an API key.');
      const ticket = newSecret('ort');
      const entry = { action: 'sign_in_ticket_created', userId: caller.userId, details: { key_id: keyId, minutes }, ...asked(requestId) };
      const expiresAt = await insertTicket(sql, hashOf(ticket), keyId, minutes, entry);
      if (expiresAt === null) throw new ProblemError('unauthorized', 'The API key is not there any more.');
      return { ticket, expires_at: expiresAt.toISOString() };
    },
    forgetUser(id) {
      verdicts.forget(({ userId }) => userId === id);
    },
  };
}

const refusals: Readonly<Record<Credentials['kind'], string>> = {
  password: 'There is no user with this name and this password.',
  key: 'This is no valid API key.',
  ticket: 'This ticket is used or too old: make another one with `orchestra dashboard`, or sign in another way.',
};

function callerOf(hash: Buffer, { userId, role, expiresAt }: SessionRow): Caller {
  return { userId, role, keyId: `session:${sessionId(hash)}`, sessionEndsAt: expiresAt };
}

/** Enough of the hash to tell sessions apart in logs; it opens nothing. */
function sessionId(hash: Buffer): string {
  return hash.toString('hex').slice(0, 12);
}

function hashOf(secret: string): Buffer {
  return createHash('sha256').update(secret).digest();
}

const asked = (requestId: string | undefined) => (requestId === undefined ? {} : { requestId });
