import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { promisify } from 'node:util';
import { clusterUrl, prepareCluster } from '../../db/server/postgres-cluster.js';
import { isLive, type ProcessFile, readProcessFile } from '../../mains/process-file.js';

const run = promisify(execFile);
const root = path.join(import.meta.dirname, '..', '..');

/** One installation under test, started as `npm start` starts it. */
export interface Product {
  readonly home: string;
  readonly api: string;
  /** address of a git repository with the script that tasks run */
  readonly repository: string;
  /** Starts `orchestra up` unless it runs, and waits until it is ready. */
  up(): Promise<void>;
  /** Kills `orchestra up` alone, and returns when it is gone; its children live on. */
  killUp(): Promise<void>;
  /** The live processes by name, `up` left out. */
  processes(): Promise<ReadonlyMap<string, ProcessFile>>;
  headers(): Promise<Record<string, string>>;
  databaseUrl(): Promise<string>;
  /** Ends everything cleanly. @returns names of processes that outlived it; they are killed then */
  down(): Promise<readonly string[]>;
}

export async function createProduct(home: string, options: { models: boolean; env?: Readonly<Record<string, string>> }): Promise<Product> {
  await mkdir(path.join(home, 'files'), { recursive: true });
  const port = await freePort();
  const api = `http://127.0.0.1:${port}`;
  const repository = `file://${await createRepository(path.join(home, 'repository'))}`;
  const env = {
    ...process.env,
    ORCHESTRA_HOME: home,
    PORT: String(port),
    TEMPLATES_DIRECTORY: path.join(import.meta.dirname, 'templates'),
    GIT_ALLOWED_SCHEMES: 'file',
    ...options.env,
  };
  let child: ChildProcess | undefined;
  const running = () => child !== undefined && child.exitCode === null && child.signalCode === null;

  async function processes(): Promise<ReadonlyMap<string, ProcessFile>> {
    const found = new Map<string, ProcessFile>();
    const files = await readdir(path.join(home, 'run')).catch(() => []);
    for (const file of files) {
      if (!file.endsWith('.json') || file === 'up.json') continue;
      const name = path.basename(file, '.json');
      const each = await readProcessFile(home, name);
      if (each !== null && (await isLive(each))) found.set(name, each);
    }
    return found;
  }

  async function ready(): Promise<void> {
    const deadline = Date.now() + 300_000;
    for (;;) {
      if (await answers(`${api}/readyz`)) return;
      if (!running()) throw new Error(`orchestra up ended with ${child?.exitCode ?? child?.signalCode}; its words are above`);
      if (Date.now() > deadline) throw new Error('orchestra up was not ready within 5 minutes');
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  return {
    home,
    api,
    repository,
    processes,
    async up() {
      if (!running()) {
        const args = [path.join(root, 'dist', 'cli', 'main.js'), 'up', ...(options.models ? [] : ['--no-ollama'])];
        child = spawn(process.execPath, args, { cwd: root, env, stdio: ['ignore', 'ignore', 'inherit'] });
      }
      await ready();
    },
    async killUp() {
      if (child === undefined || !running()) return;
      const end = once(child, 'exit');
      child.kill('SIGKILL');
      await end;
    },
    async headers() {
      const key = await readFile(path.join(home, 'admin.key'), 'utf8');
      return { 'x-api-key': key.trim(), 'content-type': 'application/json' };
    },
    async databaseUrl() {
      const file = await readProcessFile(home, 'postgres');
      if (file?.port == null) throw new Error('PostgreSQL has no process file.');
      return clusterUrl(await prepareCluster(home, () => {}), file.port);
    },
    async down() {
      const before = await processes();
      if (child !== undefined && running()) {
        const end = once(child, 'exit');
        child.kill('SIGTERM');
        await end;
      }
      const left: string[] = [];
      for (const [name, file] of before) {
        if (!(await isLive(file))) continue;
        process.kill(file.pid, 'SIGKILL');
        left.push(name);
      }
      return left;
    },
  };
}

async function answers(url: string): Promise<boolean> {
  return fetch(url, { signal: AbortSignal.timeout(5000) }).then(
    (response) => response.ok,
    () => false,
  );
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A repository whose script takes a moment, so that kills hit it, and prints what it was given. */
async function createRepository(folder: string): Promise<string> {
  await mkdir(folder, { recursive: true });
  const script = path.join(folder, 'work.sh');
  await writeFile(script, '#!/bin/sh\nsleep 0.5\nprintf "%s" "$1"\n');
  await chmod(script, 0o755);
  const git = (...args: string[]) => run('git', ['-C', folder, '-c', 'user.name=chaos', '-c', 'user.email=chaos@localhost', ...args]);
  await git('init', '--quiet', '--initial-branch=main');
  await git('add', '.');
  await git('commit', '--quiet', '--message', 'work');
  return folder;
}
