import { spawn } from 'node:child_process';
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
  /** what it has printed last, and how it ended if it has */
  said(): string;
}

/** A run that is killed takes its processes with it. The workflow worker's thread has no standard input of its own. */
const endsWithUs = `data:text/javascript,
  import { isMainThread } from "node:worker_threads";
  if (isMainThread) process.stdin.on("end", () => process.exit(1)).resume();`;

export function startMain(name: 'engine' | 'host', home: string, env: Readonly<Record<string, string>>): MainProcess {
  const cli = path.join(import.meta.dirname, '../../cli/main.ts');
  const surroundings = {
    PATH: process.env['PATH'] ?? '',
    HOME: process.env['HOME'] ?? '',
    LOG_LEVEL: process.env['TEST_LOG'] === undefined ? 'WARNING' : 'INFO',
    SHUTDOWN_GRACE_SECONDS: '1',
    ORCHESTRA_PROVIDED: '', // as `orchestra up` starts it, which waits for its readiness
  };
  const child = spawn(process.execPath, ['--import', endsWithUs, '--import', 'tsx', cli, name], {
    env: { ...surroundings, ...env, ORCHESTRA_HOME: home },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      said = `${said}${chunk.toString()}`.slice(-4_000);
      if (process.env['TEST_LOG'] !== undefined) process.stderr.write(chunk);
    });
  }
  const ended = once(child, 'exit');
  const end = async (signal: NodeJS.Signals) => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    await ended;
  };
  return {
    async ready() {
      const gone = ended.then(([code]) => {
        throw new Error(`orchestra ${name} ended with ${code}: ${said}`);
      });
      gone.catch(() => {}); // whoever kills it later knows
      await Promise.race([gone, eventually(async () => (await readReadiness(home, name))?.pid === child.pid, { timeoutMs: 120_000 })]);
    },
    kill: () => end('SIGKILL'),
    stop: () => end('SIGTERM'),
    said: () => (child.exitCode === null && child.signalCode === null ? said : `${said}\nended with ${child.exitCode ?? child.signalCode}`),
  };
}
