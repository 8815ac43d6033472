import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { readReadiness } from '../../mains/process-file.js';
import { eventually } from './servers.js';

/** `orchestra engine` or `orchestra host` as a process of its own, which a test may kill. */
export interface MainProcess {
  /** Resolves when it serves. */
  ready(): Promise<void>;
  /** kill -9; resolves when it is gone */
  kill(): Promise<void>;
  /** Ends it cleanly. */
  stop(): Promise<void>;
}

export function startMain(name: 'engine' | 'host', home: string, env: Readonly<Record<string, string>>): MainProcess {
  const cli = path.join(import.meta.dirname, '../../cli/main.ts');
  const surroundings = { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '', LOG_LEVEL: 'warn', SHUTDOWN_GRACE_SECONDS: '1' };
  const output = process.env['TEST_LOG'] === undefined ? 'ignore' : 'inherit';
  const child: ChildProcess = spawn(process.execPath, ['--import', 'tsx', cli, name], {
    env: { ...surroundings, ...env, ORCHESTRA_HOME: home },
    stdio: ['ignore', output, output],
  });
  const ended = once(child, 'exit');
  const end = async (signal: NodeJS.Signals) => {
    child.kill(signal);
    await ended;
  };
  return {
    async ready() {
      await eventually(
        async () => {
          if (child.exitCode !== null) throw new Error(`orchestra ${name} ended with ${child.exitCode}`);
          return (await readReadiness(home, name))?.pid === child.pid;
        },
        { timeoutMs: 120_000 },
      );
    },
    kill: () => end('SIGKILL'),
    stop: () => end('SIGTERM'),
  };
}
