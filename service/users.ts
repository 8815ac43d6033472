import { ProblemError } from '../contract/problems.js';
import type { ChangePasswordRequest, ChangeUserRequest, CreateUserRequest, UserListView, UserView } from '../contract/schemas/sign-in.js';
import { changeUser, findUser, insertUser, listUsers, removeUser, type UserRow } from '../db/users.js';
import type { Caller } from './caller.js';
import type { PasswordChecks } from './check-password.js';
import type { ServiceDeps } from './deps.js';
import { hashPassword } from './password.js';

export interface UserUseCases {
  /** @throws {ProblemError} user_exists */
  createUser(caller: Caller, request: CreateUserRequest, requestId?: string): Promise<UserView>;
  listUsers(): Promise<UserListView>;
  /** Changes role, password or whether the user may sign in; the last two end the user's sessions. @throws {ProblemError} unknown_user */
  changeUser(caller: Caller, id: string, change: ChangeUserRequest, requestId?: string): Promise<UserView>;
  /** Removes a user and ends what is signed in; tasks and API keys of this name stay. @throws {ProblemError} unknown_user */
  removeUser(caller: Caller, id: string, requestId?: string): Promise<void>;
  /**
   * Sets the caller's own password and ends the caller's other sessions.
   * @throws {ProblemError} unknown_user when the caller has none, forbidden when the present one is wrong, too_many_attempts
   */
  changeOwnPassword(caller: Caller, passwords: ChangePasswordRequest, requestId?: string): Promise<void>;
}

/** @param forgetUser called when a user has changed, so that verdicts of this process are no older */
export function userUseCases({ sql }: Pick<ServiceDeps, 'sql'>, passwords: PasswordChecks, forgetUser: (id: string) => void): UserUseCases {
  async function change(caller: Caller, id: string, { role, password, disabled }: ChangeUserRequest, requestId?: string): Promise<UserView> {
    const hash = password === undefined ? undefined : await hashPassword(password);
    const details = {
      user: id,
      ...(role === undefined ? {} : { role }),
      ...(disabled === undefined ? {} : { disabled }),
      ...(password === undefined ? {} : { password_changed: true }),
    };
    const own = caller.userId === id && caller.sessionEndsAt !== undefined ? caller.keyId.replace('session:', '') : null;
    const row = await changeUser(sql, id, { role, password: hash, disabled }, own, entry('user_changed', caller, details, requestId));
    forgetUser(id);
    if (row === null) throw unknownUser();
    return viewOf(row);
  }

  return {
    async createUser(caller, { id, role, password }, requestId) {
      const hash = await hashPassword(password);
      const row = await insertUser(sql, { id, role, password: hash }, entry('user_created', caller, { user: id, role }, requestId));
      if (row === null) throw new ProblemError('user_exists', `There is a user ${id} already.`);
      forgetUser(id);
      return viewOf(row);
    },
    async listUsers() {
      return { items: (await listUsers(sql)).map(viewOf) };
    },
    changeUser: change,
    async removeUser(caller, id, requestId) {
      const removed = await removeUser(sql, id, entry('user_removed', caller, { user: id }, requestId));
      forgetUser(id);
      if (!removed) throw unknownUser();
    },
    async changeOwnPassword(caller, { present, new: password }, requestId) {
      if ((await findUser(sql, caller.userId)) === null) throw unknownUser();
      if ((await passwords.prove(caller.userId, present, requestId)) === null) throw new ProblemError('forbidden', 'The present password is wrong.');
      await change(caller, caller.userId, { password }, requestId);
    },
  };
}

function entry(action: string, caller: Caller, details: object, requestId: string | undefined) {
  return { action, userId: caller.userId, details, ...(requestId === undefined ? {} : { requestId }) };
}

const unknownUser = () => new ProblemError('unknown_user', 'There is no user of this name who signs in with a password.');

function viewOf({ id, role, createdAt, disabledAt }: UserRow): UserView {
  return { id, role, disabled: disabledAt !== null, created_at: createdAt.toISOString() };
}
