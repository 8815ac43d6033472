import { locksMax } from '../contract/holds.js';
import { ProblemError } from '../contract/problems.js';
import type { LockAnswerView, LockListView, LockReleasedView } from '../contract/schemas/holds.js';
import { acquireLock, listLocks, releaseLock } from '../db/holds.js';
import { type Caller, ownerOf } from './caller.js';
import type { ServiceDeps } from './deps.js';
import { foreignCursor, openCursor, sealCursor } from './page-cursor.js';
import { taskIdOf, taskNotFound } from './task-id.js';

export interface LocksRequest {
  readonly limit: number;
  readonly cursor: string | null;
}

export interface LockUseCases {
  /**
   * Lets a running task take a lock when it is free; never waits.
   * @throws {ProblemError} task_not_found, task_not_running, too_many_locks
   */
  acquireLock(caller: Caller, name: string, taskIdText: string, wait: boolean): Promise<LockAnswerView>;
  /** Only who has a lock gives it back, and only one that was taken while the task ran. @throws {ProblemError} task_not_found */
  releaseLock(caller: Caller, name: string, taskIdText: string): Promise<LockReleasedView>;
  /**
   * One page of the locks that are held, by name. Of other people's tasks a caller sees that they have it, not which they are.
   * @throws {ProblemError} invalid_request for a cursor that is not one of this list
   */
  listLocks(caller: Caller, request: LocksRequest): Promise<LockListView>;
}

export function lockUseCases({ sql }: ServiceDeps): LockUseCases {
  return {
    async acquireLock(caller, name, taskIdText, wait) {
      const taskId = taskIdOf(taskIdText);
      const done = await acquireLock(sql, name, taskId, { owner: ownerOf(caller), wait, locksMax });
      switch (done.outcome) {
        case 'not_found':
          throw taskNotFound();
        case 'not_running':
          throw new ProblemError('task_not_running', `Only a running task takes locks; this one is ${done.status}.`);
        case 'too_many':
          throw new ProblemError('too_many_locks', `A task has at most ${locksMax} locks.`);
        case 'acquired':
          return { name, acquired: true, holder: done.holder };
        case 'refused':
          return { name, acquired: false, holder: done.holder };
      }
    },
    async releaseLock(caller, name, taskIdText) {
      const outcome = await releaseLock(sql, name, taskIdOf(taskIdText), ownerOf(caller));
      if (outcome === 'not_found') throw taskNotFound();
      return { name, released: outcome === 'released' };
    },
    async listLocks(caller, { limit, cursor }) {
      const scope = JSON.stringify(['locks', caller.userId, caller.role]);
      const after = cursor === null ? null : openCursor(cursor, scope);
      if (after?.includes('\0')) throw foreignCursor(); // no name, and no text to PostgreSQL
      const rows = await listLocks(sql, ownerOf(caller), { after, limit: limit + 1 });
      const page = rows.slice(0, limit);
      const last = rows.length > limit ? page.at(-1) : undefined;
      return {
        items: page.map(({ name, taskId, acquiredAt, asked, waiting }) => ({
          name,
          task_id: taskId,
          acquired_at: acquiredAt.toISOString(),
          until: asked ? 'released' : 'end',
          waiting,
        })),
        next_cursor: last === undefined ? null : sealCursor(last.name, scope),
      };
    },
  };
}
