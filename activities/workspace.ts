import { chmod, lstat, mkdir, readdir, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';

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
  /** Removes the directories of all attempts but these. @returns how many it removed */
  sweep(live: readonly TaskAttempt[]): Promise<number>;
}

const taskName = /^[0-9a-f-]{36}$/;
const attemptName = /^[1-9][0-9]*$/;

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
    async sweep(live) {
      const kept = new Set(live.map(({ taskId, attempt }) => `${taskId}/${attempt}`));
      let removed = 0;
      for (const taskId of await namesIn(root, taskName)) {
        for (const attempt of await namesIn(join(root, taskId), attemptName)) {
          if (kept.has(`${taskId}/${attempt}`)) continue;
          await remove({ taskId, attempt: Number(attempt) });
          removed += 1;
        }
        if (![...kept].some((one) => one.startsWith(`${taskId}/`))) await rmdir(join(root, taskId)).catch(ignore('ENOENT', 'ENOTEMPTY', 'EEXIST'));
      }
      return removed;
    },
  };
}

/** Removes a directory whatever rights a script left on what is in it; never follows a link. Call it when no process of the script is left. */
export async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true, maxRetries: 2 });
  } catch (error) {
    if (!['EACCES', 'EPERM', 'ENOTEMPTY'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    await openUp(path);
    await rm(path, { recursive: true, force: true, maxRetries: 2 });
  }
}

/** Gives the owner its rights on every directory of a tree back. */
async function openUp(root: string): Promise<void> {
  const pending = [root];
  for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
    if (!(await lstat(directory)).isDirectory()) continue;
    await chmod(directory, 0o700);
    for (const entry of await readdir(directory, { withFileTypes: true })) if (entry.isDirectory()) pending.push(join(directory, entry.name));
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
