import { access, copyFile, mkdir, rename, rm } from 'node:fs/promises';
import { userInfo } from 'node:os';
import path from 'node:path';
import { execa } from 'execa';
import { ollamaVersion } from './ollama-command.js';

/** One line for a person who waits. */
export type Say = (line: string) => void;

/** Headers of the system that Ollama's C++ needs, and the Debian package of each. */
const systemHeaders: readonly { readonly file: string; readonly debianPackage: string }[] = [
  { file: 'nlohmann/json.hpp', debianPackage: 'nlohmann-json3-dev' },
  { file: 'stb/stb_image.h', debianPackage: 'libstb-dev' },
];
const includeDirs = ['/usr/include', '/usr/local/include'];
const progressEveryMs = 15_000;

/** Why Ollama cannot be built here, with what to do; or null. Looks for programs only. */
export async function whyNoBuild(signal: AbortSignal): Promise<string | null> {
  if (!(await runs('go', ['version'], signal))) return 'Go is not installed';
  for (const compiler of ['gcc', 'g++']) {
    if (!(await runs(compiler, ['--version'], signal))) return `the C++ compiler is incomplete: ${compiler} is missing`;
  }
  return null;
}

/** Where the cache keeps the pinned version. */
export function cachedOllama(cacheDir: string): string {
  return path.join(cacheDir, `ollama-${ollamaVersion}`, 'ollama');
}

/**
 * Builds the pinned Ollama (CPU only) from its Go module into the cache; 5 to 10 minutes on two cores.
 * Go works in a copy of go.mod, so the installed package may be read-only. As root on Debian, missing headers are installed.
 * @param moduleDir where go.mod, go.sum and headers.go are
 * @throws {Error} with one sentence that says what is missing, or with the compiler's last lines
 */
export async function buildOllama({
  moduleDir,
  cacheDir,
  say,
  signal,
}: {
  moduleDir: string;
  cacheDir: string;
  say: Say;
  signal: AbortSignal;
}): Promise<string> {
  await installHeaders(say, signal);
  // The same place each time: the paths of headers are part of the keys of Go's build cache, and a second try then takes seconds.
  const buildDir = path.join(cacheDir, 'build', `ollama-${ollamaVersion}`);
  const bin = path.join(buildDir, `bin-${process.pid}`);
  await mkdir(buildDir, { recursive: true });
  try {
    for (const file of ['go.mod', 'go.sum', 'headers.go']) await copyFile(path.join(moduleDir, file), path.join(buildDir, file));
    say(`Ollama: fetching the sources of ${ollamaVersion}`);
    await go(['mod', 'download'], buildDir, {}, say, signal);
    const { stdout } = await execa('go', ['list', '-m', '-f', '{{.Dir}}', 'github.com/gen2brain/malgo'], { cwd: buildDir, cancelSignal: signal });
    const includes = path.join(buildDir, 'include');
    await mkdir(path.join(includes, 'miniaudio'), { recursive: true });
    await copyFile(path.join(stdout.trim(), 'miniaudio.h'), path.join(includes, 'miniaudio', 'miniaudio.h'));
    say(`Ollama: building ${ollamaVersion} with Go, which takes 5 to 10 minutes once`);
    // Without the flag it reports version 0.0.0.
    const version = `-X github.com/ollama/ollama/version.Version=${ollamaVersion}`;
    await go(
      ['install', '-ldflags', version, 'github.com/ollama/ollama'],
      buildDir,
      { GOBIN: bin, CGO_ENABLED: '1', CGO_CPPFLAGS: `-I${includes}` },
      say,
      signal,
    );
    const target = cachedOllama(cacheDir);
    await mkdir(path.dirname(target), { recursive: true });
    // By rename: another start that looks now finds either nothing or the whole file.
    await rename(path.join(bin, 'ollama'), target);
    return target;
  } finally {
    await rm(bin, { recursive: true, force: true });
  }
}

async function installHeaders(say: Say, signal: AbortSignal): Promise<void> {
  const missing = await missingPackages();
  if (missing.length === 0) return;
  const names = missing.join(' and ');
  if (userInfo().uid !== 0 || !(await runs('apt-get', ['--version'], signal))) {
    throw new Error(`headers that Ollama's build needs are missing; install ${names} (Debian names), then start again`);
  }
  say(`Ollama: installing ${names}`);
  const options = { cancelSignal: signal, env: { DEBIAN_FRONTEND: 'noninteractive' } };
  await execa('apt-get', ['update', '-q'], { ...options, reject: false }); // a stale list may still do
  const installed = await execa('apt-get', ['install', '-y', '-q', '--no-install-recommends', ...missing], { ...options, reject: false });
  if (installed.failed) throw new Error(`the packages ${names} could not be installed with apt-get: ${lastLines(installed.stderr)}`);
}

async function runs(file: string, args: readonly string[], signal: AbortSignal): Promise<boolean> {
  const { failed } = await execa(file, args, { reject: false, cancelSignal: signal });
  signal.throwIfAborted();
  return !failed;
}

async function missingPackages(): Promise<string[]> {
  const missing: string[] = [];
  for (const { file, debianPackage } of systemHeaders) {
    const found = await Promise.any(includeDirs.map((dir) => access(path.join(dir, file)))).then(
      () => true,
      () => false,
    );
    if (!found) missing.push(debianPackage);
  }
  return missing;
}

/** Runs Go to its end; its last lines are the reason when it fails. */
async function go(args: readonly string[], cwd: string, env: Readonly<Record<string, string>>, say: Say, signal: AbortSignal): Promise<void> {
  const startedMs = performance.now();
  const progress = setInterval(() => say(`Ollama: still at it, ${Math.round((performance.now() - startedMs) / 1000)} s`), progressEveryMs);
  try {
    const { failed, stderr, exitCode } = await execa('go', args, { cwd, env, reject: false, cancelSignal: signal });
    signal.throwIfAborted();
    if (failed) throw new Error(`\`go ${args[0]}\` failed: ${lastLines(stderr) || `exit code ${exitCode}`}`);
  } finally {
    clearInterval(progress);
  }
}

function lastLines(text: string): string {
  return text.trim().split('\n').slice(-5).join(' / ');
}
