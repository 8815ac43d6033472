import { execFile } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { createServer, type Server } from 'node:net';
import { promisify } from 'node:util';

const exec = promisify(execFile);

/** Debian reserves 65000 to 65533 and gives them to nobody. One user per run: runs side by side cannot touch each other, and all of a run can be killed at once. */
const firstUid = 65100;
const uids = 256;

/** A user that belongs to one run. */
export interface SandboxUser {
  readonly uid: number;
  /** Kills every process of this user at one instant; a fork bomb cannot outrun it. */
  killAll(): Promise<void>;
  /** Gives it a directory and what is below, without following links; files with several names stay as they are. */
  own(directory: string): Promise<void>;
  release(): Promise<void>;
}

/** Drops root for good: no groups, no capabilities, no way back. */
export function dropArguments(uid: number): string[] {
  return [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', '--inh-caps=-all', '--bounding-set=-all', '--no-new-privs'];
}

/** Takes a user that no other run on this machine has. Needs root. @throws when all are taken */
export async function takeSandboxUser(): Promise<SandboxUser> {
  // Not the first free one: the watchdog of a worker that just died may still be ending what that user had.
  const start = randomInt(uids);
  for (let offset = 0; offset < uids; offset += 1) {
    const uid = firstUid + ((start + offset) % uids);
    const lock = await lockUid(uid);
    if (!lock) continue;
    const killAll = async (): Promise<void> => {
      // kill(-1) as this user reaches its processes and no others, except the caller.
      await exec('setpriv', [...dropArguments(uid), 'sh', '-c', 'kill -KILL -1'], { env: {} }).catch(() => undefined);
    };
    await killAll(); // what a killed worker may have left
    return {
      uid,
      killAll,
      own: async (directory) => {
        await exec('find', [
          directory,
          '-xdev',
          '!',
          '-uid',
          String(uid),
          '(',
          '-type',
          'd',
          '-o',
          '-links',
          '1',
          ')',
          '-exec',
          'chown',
          '-h',
          `${uid}:${uid}`,
          '{}',
          '+',
        ]);
      },
      release: () => new Promise((resolve) => lock.close(() => resolve())),
    };
  }
  throw new Error(`all ${uids} users for scripts are in use`);
}

/** A name in the abstract socket space is held by one process and freed by its death. */
function lockUid(uid: number): Promise<Server | undefined> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once('error', (error: NodeJS.ErrnoException) => (error.code === 'EADDRINUSE' ? resolve(undefined) : reject(error)));
    server.listen(`\0ai-task-orchestra-sandbox-${uid}`, () => {
      server.unref();
      resolve(server);
    });
  });
}
