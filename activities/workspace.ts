import { randomUUID } from 'node:crypto';
import { chmod, lstat, mkdir, readdir, rename, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { pathBelow } from './directory-size.js';

export interface TaskAttempt {
  readonly taskId: string;
  /** 1 and more */
  readonly attempt: number;
}

/** Directories in which tasks work: one per attempt, so that neither another task nor a later attempt meets what one left. */
export interface Workspaces {
  /** Makes the directory, readable by its owner alone; one that is there is returned as it is. */
  create(of: TaskAttempt): Promise<string>;
  /** Removes the directory and, when it was the last, the task's. Links in it are removed, never followed. One that is gone is no error. */
  remove(of: TaskAttempt): Promise<void>;
  /**
   * Removes the directories of those attempts that have ended, and of no other: what nobody knows may be another installation's.
   * @param endedOf of the attempts whose directories are there, those that have ended
   * @returns how many it removed
   * @throws AggregateError at the end, when some could not be
   */
  sweep(endedOf: (found: readonly TaskAttempt[]) => Promise<readonly TaskAttempt[]>): Promise<number>;
}

const taskName = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const attemptName = /^[1-9][0-9]{0,8}$/;

/** @param root absolute; made when it is missing */
export function createWorkspaces(root: string): Workspaces {
  const pathOf = ({ taskId, attempt }: TaskAttempt): string => {
    if (!taskName.test(taskId) || !attemptName.test(String(attempt))) throw new Error(`no workspace for task ${JSON.stringify(taskId)}, attempt ${attempt}`);
    return join(root, taskId, String(attempt));
  };
  const remove = async (of: TaskAttempt): Promise<void> => {
    await removeTree(pathOf(of));
    await rmdir(join(root, of.taskId)).catch(ignore('ENOENT', 'ENOTEMPTY', 'EEXIST'));
  };
  return {
    remove,
    async create(of) {
      const path = pathOf(of);
      // A sweep of an empty task directory may come between the two.
      for (let left = 3; ; left -= 1) {
        await mkdir(join(root, of.taskId), { recursive: true, mode: 0o711 });
        try {
          await mkdir(path, { mode: 0o700 });
          return path;
        } catch (error) {
          const code = (error as NodeJS.ErrnoException).code;
          if (code === 'EEXIST' && (await lstat(path)).isDirectory()) return path;
          if (code !== 'ENOENT' || left === 0) throw error;
        }
      }
    },
    async sweep(endedOf) {
      const found: TaskAttempt[] = [];
      for (const taskId of await namesIn(root, taskName)) {
        const attempts = await namesIn(join(root, taskId), attemptName);
        if (attempts.length === 0) await rmdir(join(root, taskId)).catch(ignore('ENOENT', 'ENOTEMPTY', 'EEXIST'));
        found.push(...attempts.map((attempt) => ({ taskId, attempt: Number(attempt) })));
      }
      if (found.length === 0) return 0;
      const failures: unknown[] = [];
      let removed = 0;
      for (const attempt of await endedOf(found)) {
        try {
          await remove(attempt);
          removed += 1;
        } catch (error) {
          failures.push(error);
        }
      }
      if (failures.length > 0) throw new AggregateError(failures, `${failures.length} workspaces could not be removed`);
      return removed;
    },
  };
}

/**
 * Removes a directory whatever rights a script left on what is in it, however deep it nested it; never follows a link.
 * Call it when no process of the script is left.
 */
export async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true, maxRetries: 2 });
  } catch (error) {
    if (!['EACCES', 'EPERM', 'ENOTEMPTY', 'ENAMETOOLONG'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    await openUp(path);
    await rm(path, { recursive: true, force: true, maxRetries: 2 });
  }
}

/** Bytes of a path from which on a directory is moved up: what is in it then stays below the 4096 that a path may have. */
const pathBytesMax = 2048;

/** Gives the owner its rights on every directory of a tree back, and moves those that lie too deep to be named to the top. */
async function openUp(root: string): Promise<void> {
  const pending = [Buffer.from(root)];
  for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
    if (!(await lstat(directory)).isDirectory()) continue;
    await chmod(directory, 0o700);
    for (const entry of await readdir(directory, { withFileTypes: true, encoding: 'buffer' })) {
      if (!entry.isDirectory()) continue;
      let inner = pathBelow(directory, entry.name);
      if (inner.length > pathBytesMax) {
        const top = Buffer.from(join(root, randomUUID()));
        await chmod(inner, 0o700); // a directory that changes its parent has to be writable itself
        await rename(inner, top);
        inner = top;
      }
      pending.push(inner);
    }
  }
}

async function namesIn(directory: string, shape: RegExp): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  return entries.filter((entry) => entry.isDirectory() && shape.test(entry.name)).map((entry) => entry.name);
}

function ignore(...codes: string[]): (error: NodeJS.ErrnoException) => void {
  return (error) => {
    if (!codes.includes(error.code ?? '')) throw error;
  };
}
