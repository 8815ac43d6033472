import { spawn } from 'node:child_process';
import { mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { Connection } from '@temporalio/client';
import { retryUntilClosed } from '../grpc-retry.js';
import type { Binary } from './choose-temporal.js';
import { temporalCommand } from './temporal-command.js';

/** Asks a running server for its version. A binary built from the module calls itself 0.0.0-DEV, so a file is never asked. */
export async function askServerVersion(address: string, timeoutMs: number): Promise<string> {
  const connection = Connection.lazy({ address, connectTimeout: timeoutMs, interceptors: [retryUntilClosed] });
  try {
    const info = await connection.withDeadline(Date.now() + timeoutMs, () => connection.workflowService.getSystemInfo({}));
    return info.serverVersion;
  } finally {
    await connection.close();
  }
}

/**
 * Learns what a `temporal` executable is by starting it for a moment, in memory and on a free port.
 * The answer is kept by path, size and time of change, so that it costs its second only once.
 */
export async function examineBinary(path: string, cacheDir: string, timeoutMs = 60_000): Promise<Binary> {
  const file = join(cacheDir, 'temporal-versions.json');
  const { size, mtimeMs } = await stat(path);
  const key = `${path}:${size}:${mtimeMs}`;
  const known = await readKnown(file);
  if (known[key] !== undefined) return { path, serverVersion: known[key] };
  try {
    const serverVersion = await startAndAsk(path, timeoutMs);
    await mkdir(dirname(file), { recursive: true });
    const temporary = `${file}.${process.pid}`;
    await writeFile(temporary, JSON.stringify({ ...known, [key]: serverVersion }));
    await rename(temporary, file);
    return { path, serverVersion };
  } catch (error) {
    return { path, fault: `does not start (${error instanceof Error ? error.message : String(error)})` };
  }
}

async function readKnown(file: string): Promise<Record<string, string>> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as Record<string, string>;
  } catch {
    return {}; // absent, or cut by a power failure: asked again
  }
}

async function startAndAsk(path: string, timeoutMs: number): Promise<string> {
  const port = await freePort();
  const { file, args } = temporalCommand({ binary: path, directory: null, port, uiPort: null, namespaces: [], logLevel: 'error' });
  const child = spawn(file, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let printed = '';
  child.stderr.on('data', (chunk: Buffer) => {
    printed = (printed + chunk.toString()).slice(-2_000);
  });
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => resolve(`it ended with ${signal ?? code}: ${printed.trim().split('\n').at(-1) ?? ''}`));
  });
  let over: string | undefined;
  void ended.then((how) => {
    over = how;
  });
  try {
    const deadlineMs = performance.now() + timeoutMs;
    for (;;) {
      try {
        return await askServerVersion(`127.0.0.1:${port}`, 2_000);
      } catch (error) {
        if (over !== undefined) throw new Error(over);
        if (performance.now() > deadlineMs) throw error;
        await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 100))]);
      }
    }
  } finally {
    if (over === undefined) {
      child.kill('SIGKILL'); // nothing of it is worth a clean end
      await ended;
    }
  }
}

/**
 * A loopback port that nobody listens on; the wanted one when it is free.
 * @param wanted 0 or absent: any
 */
export async function freePort(wanted = 0): Promise<number> {
  const listen = (port: number) =>
    new Promise<number>((resolve, reject) => {
      const server = createServer();
      server.once('error', reject);
      server.listen(port, '127.0.0.1', () => {
        const address = server.address();
        server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : port));
      });
    });
  if (wanted !== 0) {
    try {
      return await listen(wanted);
    } catch {
      // taken: any other does
    }
  }
  return listen(0);
}
