import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { lstat, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { bwrapArguments } from './bwrap-arguments.js';
import { prlimitArguments } from './prlimit-arguments.js';
import { processesMarked, processTree, signalProcess, tasksOfUser } from './process-tree.js';
import { runFenced } from './run-fenced.js';
import type { RunRequest, RunResult } from './sandbox.js';
import { dropArguments, takeSandboxUser } from './sandbox-user.js';

/** What the fence's own programs see; never the worker's environment. */
const fenceEnv = (searchPath: string): Record<string, string> => ({ PATH: searchPath, LANG: 'C.UTF-8' });
/** Where the fence's own programs (bwrap, setpriv, prlimit) are looked for. */
export const fencePath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const runMarker = 'ORCHESTRA_RUN';
/** Empty on every common system; only inside a private mount namespace something is put there. */
const mountPoint = '/mnt';
/** Bubblewrap reports a program that does not exist like a fence that cannot be set up; a shell ends with 127. */
const startedByShell = ['/bin/sh', '-c', 'exec "$@"', 'sh'];

/** Runs in bubblewrap. As root, the user is dropped first, so that no file is ever written as root. */
export async function runInBwrap(request: RunRequest, { disableUserns, searchPath }: { disableUserns: boolean; searchPath: string }): Promise<RunResult> {
  const user = process.getuid?.() === 0 ? await takeSandboxUser() : null;
  try {
    await user?.own(request.workspace);
    const workspace = user ? mountPoint : request.workspace;
    const options = bwrapArguments({ workspace, cwd: request.cwd, env: request.env, disableUserns, ...(await systemDirectories()) });
    // The limits come before the fence: inside it, the script's own PATH would say which `prlimit` runs, and its LD_PRELOAD what that does.
    const limits = prlimitArguments(request, user ? 0 : await tasksOfUser(process.getuid?.() ?? 0));
    const bwrap = ['prlimit', ...limits, '--', 'bwrap', '--args', '3', '--json-status-fd', '4', '--', ...startedByShell, ...request.argv];
    // The home of an installation may be closed to other users, so root makes the workspace reachable before it is root no more.
    const bind = 'mount --bind -- "$1" "$2" && shift 2 && exec "$@"';
    const dropped = user
      ? [
          'unshare',
          '--mount',
          '--propagation',
          'private',
          '--',
          'sh',
          '-c',
          bind,
          'sh',
          request.workspace,
          mountPoint,
          'setpriv',
          ...dropArguments(user.uid),
          '--',
        ]
      : [];
    const [file, ...args] = [...dropped, ...bwrap];
    return await runFenced(
      {
        level: 'bwrap',
        file: file as string,
        args,
        cwd: '/',
        env: fenceEnv(searchPath),
        privateOptions: options.map((option) => `${option}\0`).join(''),
        started: () => undefined,
        // The kernel ends a process namespace with its first process; a dead worker ends it by --die-with-parent.
        killAll: async (pid) => {
          signalProcess(pid, 'SIGKILL');
          await user?.killAll();
        },
      },
      request,
    );
  } finally {
    await user?.release();
  }
}

/** Runs as a user of its own, without root's rights. The network and readable files of the host are open to it. Needs root. */
export async function runAsUid(request: RunRequest): Promise<RunResult> {
  const user = await takeSandboxUser();
  let watchdog: ChildProcess | undefined;
  try {
    await user.own(request.workspace);
    const drop = dropArguments(user.uid);
    return await runFenced(
      {
        level: 'uid',
        file: 'setpriv',
        args: [...drop, '--', 'prlimit', ...prlimitArguments(request), '--', 'env', '-i', ...environmentOf(request), ...request.argv],
        cwd: join(request.workspace, request.cwd),
        env: fenceEnv(fencePath),
        started: () => {
          watchdog = startWatchdog('exec setpriv "$@" sh -c "kill -KILL -1"', drop);
        },
        killAll: () => user.killAll(),
      },
      request,
    );
  } finally {
    if (watchdog) stopWatchdog(watchdog);
    await user.release();
  }
}

/** Runs as the worker's own user with limits alone. */
export async function runUnfenced(request: RunRequest): Promise<RunResult> {
  const marker = `${runMarker}=${randomUUID()}`;
  const tasksBefore = await tasksOfUser(process.getuid?.() ?? 0);
  let watchdog: ChildProcess | undefined;
  try {
    return await runFenced(
      {
        level: 'none',
        file: 'prlimit',
        args: [...prlimitArguments(request, tasksBefore), '--', 'env', '-i', marker, ...environmentOf(request), ...request.argv],
        cwd: join(request.workspace, request.cwd),
        env: { ...fenceEnv(fencePath), [runMarker]: marker.slice(runMarker.length + 1) },
        started: (pid) => {
          watchdog = startWatchdog(
            'kill -KILL -- "-$1"; for round in 1 2 3; do for p in /proc/[0-9]*; do grep -qaF "$2" "$p/environ" 2>/dev/null && kill -KILL "${p#/proc/}"; done; done',
            [String(pid), marker],
          );
        },
        killAll: (pid) => killMarked(pid, marker),
      },
      request,
    );
  } finally {
    if (watchdog) stopWatchdog(watchdog);
  }
}

/** Most rounds of looking for processes; each finds fewer, since what was found cannot start more. */
const roundsMax = 50;

/** The group goes at one instant. What left it is stopped first, so that nothing can start another process while it is looked for, and then killed. */
async function killMarked(pid: number, marker: string): Promise<void> {
  signalProcess(-pid, 'SIGKILL');
  const groups = new Set([pid]);
  const stopped = new Set<number>();
  for (let round = 0; round < roundsMax; round += 1) {
    const tree = (await processTree(pid)).map((seen) => seen.pid).filter((one) => one !== pid);
    const fresh = [...tree, ...(await processesMarked(marker, groups))].filter((one) => !stopped.has(one) && one !== process.pid);
    if (fresh.length === 0) break;
    for (const one of fresh) {
      signalProcess(one, 'SIGSTOP');
      stopped.add(one);
    }
  }
  for (const one of stopped) signalProcess(one, 'SIGKILL');
}

/**
 * Ends the run when the worker dies without a word: its end of the pipe closes then. In a session of its own, so that what
 * takes the worker's group down leaves it alive.
 */
function startWatchdog(kill: string, args: readonly string[]): ChildProcess {
  const watchdog = spawn('sh', ['-c', `while read -r line; do :; done; ${kill}`, 'sh', ...args], {
    detached: true,
    env: fenceEnv(fencePath),
    cwd: '/',
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  watchdog.on('error', () => undefined); // no shell, no script either: the run itself says so
  watchdog.stdin?.on('error', () => undefined);
  watchdog.unref();
  return watchdog;
}

function stopWatchdog(watchdog: ChildProcess): void {
  watchdog.kill('SIGKILL');
  watchdog.stdin?.destroy();
}

function environmentOf(request: RunRequest): string[] {
  const environment = { PATH: '/usr/local/bin:/usr/bin:/bin', HOME: request.workspace, LANG: 'C.UTF-8', TMPDIR: request.workspace, ...request.env };
  return Object.entries(environment).map(([name, value]) => `${name}=${value}`);
}

async function systemDirectories(): Promise<{ links: (readonly [string, string])[]; directories: string[]; node: string | null }> {
  const links: (readonly [string, string])[] = [];
  const directories: string[] = [];
  for (const path of ['/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32']) {
    const stat = await lstat(path).catch(() => undefined);
    if (stat?.isSymbolicLink()) links.push([await readlink(path), path]);
    else if (stat?.isDirectory()) directories.push(path);
  }
  return { links, directories, node: process.execPath.startsWith('/usr/') ? null : process.execPath };
}
