import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { HeadAndTail } from '../sandbox/head-and-tail.js';

export interface GitRun {
  readonly args: readonly string[];
  readonly cwd: string;
  /** added to the few variables that git gets */
  readonly env: Readonly<Record<string, string>>;
  /** ends git and what it started */
  readonly signal: AbortSignal;
}

export interface GitEnd {
  /** null when a signal ended it */
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const outputBytesMax = 4 * 1024 ** 2;

/** No hooks, no submodules, no links, no background work, and names that no file system takes for `.git`. */
const options = [
  'core.hooksPath=/dev/null',
  'core.symlinks=false',
  'core.fsmonitor=false',
  'core.protectNTFS=true',
  'core.protectHFS=true',
  'core.attributesFile=/dev/null',
  'submodule.recurse=false',
  'fetch.recurseSubmodules=false',
  'http.followRedirects=false',
  'protocol.version=2',
  'gc.auto=0',
  'maintenance.auto=false',
  'credential.helper=',
  'advice.detachedHead=false',
].flatMap((option) => ['-c', option]); // prettier-ignore

/** Runs git without the machine's configuration, in a process group of its own; returns when all of the group is gone. @throws when git cannot be started */
export async function runGit({ args, cwd, env, signal }: GitRun): Promise<GitEnd> {
  signal.throwIfAborted();
  const child = spawn('git', [...options, ...args], {
    cwd,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.platform === 'win32' ? '' : '/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin',
      HOME: '/nonexistent',
      LANG: 'C',
      GIT_CONFIG_NOSYSTEM: '1',
      GIT_CONFIG_GLOBAL: '/dev/null',
      GIT_TERMINAL_PROMPT: '0',
      GIT_LFS_SKIP_SMUDGE: '1',
      GIT_ATTR_NOSYSTEM: '1',
      GIT_OPTIONAL_LOCKS: '0',
      GIT_CEILING_DIRECTORIES: cwd,
      ...env,
    },
  });
  const stdout = new HeadAndTail(outputBytesMax);
  const stderr = new HeadAndTail(64 * 1024);
  child.stdout.on('data', (chunk: Buffer) => stdout.add(chunk));
  child.stderr.on('data', (chunk: Buffer) => stderr.add(chunk));
  await once(child, 'spawn');
  const killGroup = (): void => {
    try {
      process.kill(-(child.pid as number), 'SIGKILL');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  };
  signal.addEventListener('abort', killGroup, { once: true });
  if (signal.aborted) killGroup();
  try {
    const closed = once(child, 'close');
    await once(child, 'exit');
    killGroup();
    await closed;
    return { exitCode: child.exitCode, stdout: stdout.text(), stderr: stderr.text() };
  } finally {
    signal.removeEventListener('abort', killGroup);
  }
}
