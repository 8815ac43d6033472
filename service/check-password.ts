import { createHash, createHmac, randomBytes } from 'node:crypto';
import { ProblemError } from '../contract/problems.js';
import type { Role } from '../contract/roles.js';
import { passwordCharactersMax, userIdForm } from '../contract/users.js';
import { addAuditEntry } from '../db/audit.js';
import { forgetAttempts, noteAttempt } from '../db/sign-in-failures.js';
import { findUser } from '../db/users.js';
import type { Caller } from './caller.js';
import type { ServiceDeps } from './deps.js';
import { nobodysHash, verifyPassword } from './password.js';
import { createVerdicts } from './verdicts.js';

/** Kept in PostgreSQL, so that it holds for all processes of the API together and over their restarts. */
const limits = { perName: 10, inAll: 30, windowSeconds: 300 } as const;

/** A user whose password was right, with its hash as it was then. */
export interface ProvedUser {
  readonly id: string;
  readonly role: Role;
  readonly hash: string;
}

export interface PasswordChecks {
  /**
   * Whose password this is; null: nobody's, with the same work whether there is such a user or not.
   * @throws {ProblemError} too_many_attempts
   */
  prove(user: string, password: string, requestId?: string): Promise<ProvedUser | null>;
  /**
   * Who comes with this user and password, for requests that each carry them; the verdict is kept for 5 s, so that not each costs a hash.
   * @throws {ProblemError} too_many_attempts
   */
  verifyPassword(user: string, password: string, requestId?: string): Promise<Caller | null>;
  /** Forgets verdicts on a user that has changed. */
  forgetUser(id: string): void;
}

export function passwordChecks({ sql, log }: Pick<ServiceDeps, 'sql' | 'log'>): PasswordChecks {
  const verdicts = createVerdicts<Caller | null>();
  const underWay = new Map<string, Promise<Caller | null>>();
  /** of this process alone: what is kept of a password says nothing without it */
  const secret = randomBytes(32);

  async function prove(user: string, password: string, requestId?: string): Promise<ProvedUser | null> {
    if (password.length > passwordCharactersMax) return null;
    const name = createHash('sha256').update(user).digest();
    const attempt = await noteAttempt(sql, name, limits);
    if ('waitSeconds' in attempt) {
      const { waitSeconds: retryAfterSeconds } = attempt;
      throw new ProblemError('too_many_attempts', `Too many wrong passwords: try again in ${retryAfterSeconds} s. API keys work meanwhile.`, {
        retryAfterSeconds,
      });
    }
    const found = userIdForm.test(user) ? await findUser(sql, user) : null;
    const right = await verifyPassword(password, found?.password ?? nobodysHash);
    if (found !== null && right && found.disabledAt === null) {
      await forgetAttempts(sql, name);
      return { id: found.id, role: found.role, hash: found.password };
    }
    log.warn({ request_id: requestId, user: found?.id ?? null }, 'a password was refused');
    await addAuditEntry(sql, {
      action: 'sign_in_refused',
      userId: found?.id ?? null,
      details: { by: 'password' },
      ...(requestId === undefined ? {} : { requestId }),
    });
    return null;
  }

  async function verify(hash: Buffer, user: string, password: string, requestId?: string): Promise<Caller | null> {
    const proved = await prove(user, password, requestId);
    const caller = proved === null ? null : { userId: proved.id, role: proved.role, keyId: `password:${proved.id}` };
    verdicts.keep(hash, caller);
    return caller;
  }

  return {
    prove,
    async verifyPassword(user, password, requestId) {
      const hash = createHmac('sha256', secret).update(`${user.length}:${user}${password}`).digest();
      const known = verdicts.get(hash);
      if (known !== undefined) return known;
      const name = hash.toString('base64');
      let verdict = underWay.get(name);
      if (verdict === undefined) {
        verdict = verify(hash, user, password, requestId).finally(() => underWay.delete(name));
        underWay.set(name, verdict);
      }
      return verdict;
    },
    forgetUser(id) {
      verdicts.forget((caller) => caller === null || caller.userId === id);
    },
  };
}
