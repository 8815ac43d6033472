import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ollamaCommand } from '../../activities/backends/server/ollama-command.js';
import { findOllamaBinary } from '../../activities/backends/server/provide-ollama.js';
import { loadConfig } from '../../config.js';
import { eventually } from './servers.js';

/** An Ollama of one test's own, which may be killed, starved and filled. */
export interface OwnOllama {
  /** `http://127.0.0.1:port`, the same after a restart */
  readonly url: string;
  readonly modelsDir: string;
  /** kill -9 of the server and its runners */
  kill(): Promise<void>;
  /** kill -9 of the server alone: its runners live on */
  killServer(): Promise<void>;
  /** starts it again after a kill */
  start(): Promise<void>;
  /** pids of the processes that hold a model */
  runners(): Promise<number[]>;
  stop(): Promise<void>;
}

export async function startOwnOllama(env: Readonly<Record<string, string>> = {}): Promise<OwnOllama> {
  const home = await mkdtemp(path.join(tmpdir(), 'ollama-test-'));
  const { cacheDir, path: searched } = loadConfig(process.env);
  const found = await findOllamaBinary(searched, cacheDir);
  if (found === null) throw new Error(`No ollama is on PATH or in ${cacheDir}; \`npm test\` builds it.`);
  const settings = { port: await freePort(), modelsDir: path.join(home, 'models'), homeDir: home, maxLoadedModels: 1, parallel: 1 };
  const command = ollamaCommand(found.binary, settings, process.env);
  const { url } = command;
  let child: ChildProcess | undefined;

  const start = async () => {
    child = spawn(command.file, command.args, { env: { ...command.env, ...env }, stdio: 'ignore' });
    await eventually(async () => (await fetch(`${url}/api/version`)).ok);
  };
  /** @returns its runners */
  const killServer = async (): Promise<number[]> => {
    const running = child;
    child = undefined;
    if (running === undefined || running.exitCode !== null || running.signalCode !== null) return [];
    const pids = await childrenOf(running.pid ?? 0);
    const exited = once(running, 'exit');
    running.kill('SIGKILL');
    await exited;
    return pids;
  };
  const kill = async () => {
    const pids = await killServer();
    for (const pid of pids) killQuietly(pid);
  };
  await start();
  return {
    url,
    modelsDir: settings.modelsDir,
    kill,
    async killServer() {
      await killServer();
    },
    start,
    runners: () => childrenOf(child?.pid ?? 0),
    async stop() {
      await kill();
      await rm(home, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/** Ticks of CPU that a process has used; 0 when it is gone. */
export async function cpuTicks(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[11] ?? 0) + Number(fields[12] ?? 0);
}

export async function childrenOf(parent: number): Promise<number[]> {
  const found: number[] = [];
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const stat = await readFile(`/proc/${entry}/stat`, 'utf8').catch(() => '');
    if (Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === parent) found.push(Number(entry));
  }
  return found;
}

export function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended.
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const closed = once(server, 'close');
  server.close();
  await closed;
  return port;
}
