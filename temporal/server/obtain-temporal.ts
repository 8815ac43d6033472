import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, constants, copyFile, mkdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { arch, platform } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { temporalCliVersion } from './choose-temporal.js';

const run = promisify(execFile);

/** One line for a person who waits. */
export type Say = (line: string) => void;

const progressEveryMs = 5_000;
const connectTimeoutMs = 5_000;
const idleTimeoutMs = 30_000;

/** The first executable of that name on a PATH. */
export async function findOnPath(name: string, path: string): Promise<string | null> {
  for (const directory of path.split(delimiter)) {
    if (directory === '') continue;
    const file = join(directory, name);
    try {
      await access(file, constants.X_OK);
      if ((await stat(file)).isFile()) return file;
    } catch {
      // not here
    }
  }
  return null;
}

/** Where the cache keeps the pinned CLI. */
export function cachedTemporal(cacheDir: string): string {
  return join(cacheDir, `temporal-${temporalCliVersion}`, 'temporal');
}

function platformName(): { os: string; cpu: string } {
  return { os: platform() === 'win32' ? 'windows' : platform(), cpu: arch() === 'x64' ? 'amd64' : arch() };
}

/**
 * Fetches the official archive into the cache.
 * @throws Error with the reason in a few words; whoever calls goes on with the next way at once
 */
export async function downloadTemporal(cacheDir: string, say: Say): Promise<string> {
  const { os, cpu } = platformName();
  const url = `https://temporal.download/cli/archive/v${temporalCliVersion}?platform=${os}&arch=${cpu}`;
  say(`Temporal: downloading ${url}`);
  const archive = await download(url, say);
  const known = await publishedChecksum(`temporal_cli_${temporalCliVersion}_${os}_${cpu}.tar.gz`);
  const actual = createHash('sha256').update(archive).digest('hex');
  if (known !== null && known !== actual) throw new Error(`its checksum is ${actual}, published is ${known}`);
  say(
    known === null
      ? 'Temporal: the published checksum could not be read; the download is trusted by its TLS certificate'
      : 'Temporal: the checksum is the published one',
  );
  await mkdir(cacheDir, { recursive: true });
  const directory = join(cacheDir, `temporal-download-${process.pid}`);
  await mkdir(directory, { recursive: true });
  try {
    const file = join(directory, 'temporal.tar.gz');
    await writeFile(file, archive);
    await run('tar', ['-xzf', file, '-C', directory, 'temporal']);
    await mkdir(dirname(cachedTemporal(cacheDir)), { recursive: true });
    await rename(join(directory, 'temporal'), cachedTemporal(cacheDir));
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
  return cachedTemporal(cacheDir);
}

async function download(url: string, say: Say): Promise<Buffer> {
  const cut = new AbortController();
  let timer = setTimeout(() => cut.abort(new Error(`no answer in ${connectTimeoutMs / 1000} s`)), connectTimeoutMs);
  try {
    const response = await fetch(url, { signal: cut.signal });
    if (!response.ok || response.body === null) throw new Error(`HTTP ${response.status}`);
    const total = Number(response.headers.get('content-length') ?? 0);
    const chunks: Uint8Array[] = [];
    let received = 0;
    let saidMs = performance.now();
    for await (const chunk of response.body) {
      clearTimeout(timer);
      timer = setTimeout(() => cut.abort(new Error(`nothing came for ${idleTimeoutMs / 1000} s`)), idleTimeoutMs);
      chunks.push(chunk);
      received += chunk.byteLength;
      if (performance.now() - saidMs >= progressEveryMs) {
        saidMs = performance.now();
        say(`Temporal: ${Math.round(received / 1e6)} MB${total > 0 ? ` of ${Math.round(total / 1e6)} MB` : ''}`);
      }
    }
    return Buffer.concat(chunks);
  } catch (error) {
    throw cut.signal.aborted ? cut.signal.reason : new Error(causeOf(error));
  } finally {
    clearTimeout(timer);
  }
}

function causeOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
}

async function publishedChecksum(archive: string): Promise<string | null> {
  try {
    const response = await fetch(`https://github.com/temporalio/cli/releases/download/v${temporalCliVersion}/checksums.txt`, {
      signal: AbortSignal.timeout(connectTimeoutMs),
    });
    if (!response.ok) return null;
    const line = (await response.text()).split('\n').find((text) => text.endsWith(archive));
    return line?.split(/\s+/)[0] ?? null;
  } catch {
    return null;
  }
}

/** The version of the Go toolchain on the PATH, or null. */
export async function goVersion(): Promise<string | null> {
  try {
    const { stdout } = await run('go', ['env', 'GOVERSION']);
    return /go(\d+\.\d+(?:\.\d+)?)/.exec(stdout)?.[1] ?? null;
  } catch {
    return null;
  }
}

/**
 * Builds the pinned module into the cache; several minutes when Go's own cache is empty.
 * @param moduleDir directory of the pinned go.mod and go.sum
 * @throws Error with the last line that Go printed
 */
export async function buildTemporal(moduleDir: string, cacheDir: string, say: Say): Promise<string> {
  const buildDir = join(cacheDir, 'build', `temporal-${temporalCliVersion}`);
  await mkdir(buildDir, { recursive: true });
  // In a copy, so that Go never writes into the installed package.
  for (const file of ['go.mod', 'go.sum']) await copyFile(join(moduleDir, file), join(buildDir, file));
  await mkdir(dirname(cachedTemporal(cacheDir)), { recursive: true });
  const built = `${cachedTemporal(cacheDir)}.${process.pid}`;
  const startedMs = performance.now();
  say('Temporal: building it with Go, which takes 3 to 10 minutes once');
  const progress = setInterval(() => say(`Temporal: still building, ${Math.round((performance.now() - startedMs) / 1000)} s`), progressEveryMs);
  try {
    await new Promise<void>((resolve, reject) => {
      const child = spawn('go', ['build', '-mod=readonly', '-o', built, 'github.com/temporalio/cli/cmd/temporal'], {
        cwd: buildDir,
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      let printed = '';
      child.stderr.on('data', (chunk: Buffer) => {
        printed = (printed + chunk.toString()).slice(-4_000);
      });
      child.once('error', reject);
      child.once('close', (code) => (code === 0 ? resolve() : reject(new Error(printed.trim().split('\n').at(-1) || `go build ended with ${code}`))));
    });
    await rename(built, cachedTemporal(cacheDir));
  } finally {
    clearInterval(progress);
    await rm(built, { force: true });
  }
  say(`Temporal: built in ${Math.round((performance.now() - startedMs) / 1000)} s`);
  return cachedTemporal(cacheDir);
}
