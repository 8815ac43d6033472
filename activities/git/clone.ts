import { randomUUID } from 'node:crypto';
import { lstat, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Logger } from 'pino';
import { failureCodes, StepFailure } from '../../contract/failure.js';
import { directorySize } from '../directory-size.js';
import { openFileBelow } from '../open-below.js';
import { removeTree } from '../workspace.js';
import type { CloneRequest, CloneResult, GitClient } from './git-client.js';
import { resolveHost } from './public-address.js';
import { parseRepositoryAddress, type RepositoryAddress, redactAddress } from './repository-address.js';
import { type GitEnd, runGit } from './run-git.js';

export interface GitSettings {
  /** lower case, such as `https` and `ssh` */
  readonly allowedSchemes: readonly string[];
  /** hosts, as `name` or `name:port`, that may have private addresses */
  readonly allowedHosts?: readonly string[];
  readonly log: Logger;
}

const commitShape = /^[0-9a-f]{40}$/;
const refShape = /^[A-Za-z0-9_][A-Za-z0-9_./+@-]{0,254}$/;
const fetchedRef = 'refs/orchestra/fetched';
const filesMax = 500_000;
const sizeWatchMs = 250;
const timerMsMax = 2 ** 31 - 1;

/** A git client that trusts neither the address nor the repository; see {@link GitClient} for its errors. */
export function createGitClient({ allowedSchemes, allowedHosts = [], log }: GitSettings): GitClient {
  return {
    async clone(request) {
      request.signal.throwIfAborted();
      const address = parseRepositoryAddress(request.repo, allowedSchemes);
      if (request.ref !== undefined) checkRef(request.ref);
      const env = await environment(address, allowedSchemes, allowedHosts);
      const started = performance.now();
      const result = await limited(request, (signal, watch) => clone(request, address, env, signal, watch));
      log.info(
        { repo: address.shown, commit: result.commit, sizeBytes: result.sizeBytes, durationMs: Math.round(performance.now() - started) },
        'repository fetched',
      );
      return result;
    },
  };
}

async function clone(
  request: CloneRequest,
  address: RepositoryAddress,
  env: Record<string, string>,
  signal: AbortSignal,
  watch: (directory: string) => void,
): Promise<CloneResult> {
  const { directory, depth } = request;
  const parent = dirname(directory);
  await mkdir(parent, { recursive: true });
  const git = (cwd: string, ...args: string[]): Promise<GitEnd> => runGit({ args, cwd, env, signal });
  const found = await findRef(request, address, (...args) => git(parent, ...args));
  const done = await finishedClone(directory);
  if (done !== null && done.commit === found.commit) return done;

  await removeHalfDone(directory);
  const partial = `${directory}.partial-${randomUUID()}`;
  try {
    await mkdir(partial, { mode: 0o700 });
    watch(partial);
    mustWork(await git(partial, 'init', '--quiet', '--template='), address);
    const fetched = await git(
      partial,
      'fetch',
      '--quiet',
      `--depth=${depth}`,
      '--no-tags',
      '--no-recurse-submodules',
      '--no-write-fetch-head',
      '--',
      address.url,
      `+${found.source}:${fetchedRef}`,
    );
    if (
      fetched.exitCode !== 0 &&
      /not our ref|couldn't find remote ref|no such remote ref|Server does not allow request for unadvertised object/i.test(fetched.stderr)
    )
      throw refNotFound(request.ref);
    mustWork(fetched, address);
    mustWork(await git(partial, 'checkout', '--quiet', '--detach', '--no-recurse-submodules', `${fetchedRef}^{commit}`), address);
    const head = mustWork(await git(partial, 'rev-parse', '--verify', 'HEAD'), address).stdout.trim();
    const { bytes } = await checkedSize(partial, request.bytesMax);
    signal.throwIfAborted();
    await rename(partial, directory);
    const result = { commit: head, sizeBytes: bytes };
    await writeFile(markerOf(directory), JSON.stringify(result), { flag: 'wx' });
    return result;
  } finally {
    await removeTree(partial);
  }
}

/** Asks the server what a branch or tag is now; a commit id is taken as it is. */
async function findRef(
  { ref }: CloneRequest,
  address: RepositoryAddress,
  git: (...args: string[]) => Promise<GitEnd>,
): Promise<{ source: string; commit: string }> {
  if (ref !== undefined && commitShape.test(ref)) return { source: ref, commit: ref };
  const names = ref === undefined ? ['HEAD'] : ref.startsWith('refs/') ? [ref] : [`refs/heads/${ref}`, `refs/tags/${ref}`];
  const list = mustWork(await git('ls-remote', '--quiet', '--', address.url, ...names.flatMap((name) => [name, `${name}^{}`])), address).stdout;
  const commits = new Map(list.split('\n').map((line) => line.split('\t').reverse() as [string, string]));
  for (const name of names) {
    const commit = commits.get(`${name}^{}`) ?? commits.get(name);
    if (commit !== undefined && commitShape.test(commit)) return { source: name, commit };
  }
  throw refNotFound(ref);
}

function refNotFound(ref: string | undefined): StepFailure {
  const what = ref === undefined ? 'the repository has no commits' : `the repository has no branch, tag or commit ${JSON.stringify(ref)}`;
  return new StepFailure('git_ref_not_found', what, { retryable: false });
}

/** Names that git itself would take, and none that it could read as an option, a range or a path out of `refs/`. */
function checkRef(ref: string): void {
  const parts = ref.split('/');
  const wrong =
    !refShape.test(ref) ||
    ref.includes('..') ||
    ref.includes('@{') ||
    ref.endsWith('.') ||
    parts.some((part) => part === '' || part.startsWith('.') || part.endsWith('.lock'));
  if (wrong) throw new StepFailure('git_ref_not_found', `${JSON.stringify(ref.slice(0, 300))} cannot be a branch, a tag or a commit`, { retryable: false });
}

/** Says where git may connect to, and with which credentials; through the environment, since command lines are public. */
async function environment(address: RepositoryAddress, schemes: readonly string[], allowedHosts: readonly string[]): Promise<Record<string, string>> {
  const base = { GIT_ALLOW_PROTOCOL: schemes.join(':') };
  if (address.host === '') return base;
  const { host, port, scheme } = address;
  const privateAllowed = allowedHosts.includes(host) || (port !== null && allowedHosts.includes(`${host}:${port}`));
  const ip = await resolveHost(host, privateAllowed);
  if (scheme === 'ssh') {
    const checks = [
      'BatchMode=yes',
      'StrictHostKeyChecking=accept-new',
      'ForwardAgent=no',
      'PermitLocalCommand=no',
      'ProxyCommand=none',
      `HostName=${ip}`,
      `HostKeyAlias=${host.replace(/[[\]]/g, '')}`,
    ];
    return { ...base, GIT_SSH_VARIANT: 'ssh', GIT_SSH_COMMAND: `ssh -F /dev/null ${checks.map((check) => `-o ${check}`).join(' ')}` };
  }
  const defaultPort = scheme === 'https' ? '443' : '80';
  const config: [string, string][] = [['http.curloptResolve', `${host.replace(/[[\]]/g, '')}:${port ?? defaultPort}:${ip}`]];
  if (address.authorization !== null) config.push(['http.extraHeader', `Authorization: ${address.authorization}`]);
  const entries = config.flatMap(([key, value], at) => [
    [`GIT_CONFIG_KEY_${at}`, key],
    [`GIT_CONFIG_VALUE_${at}`, value],
  ]); // prettier-ignore
  return { ...base, GIT_CONFIG_COUNT: String(config.length), ...Object.fromEntries(entries) };
}

/** Runs work under the request's time and size limits; whichever is passed, git is gone before the error is thrown. */
async function limited(request: CloneRequest, work: (signal: AbortSignal, watch: (directory: string) => void) => Promise<CloneResult>): Promise<CloneResult> {
  const limits = new AbortController();
  const pass = (limit: string, message: string): void => limits.abort(limitExceeded(limit, message));
  const seconds = Math.ceil(request.timeoutMs / 1000);
  const timeout = setTimeout(
    () => pass('timeout_seconds', `the clone took longer than ${seconds} seconds`),
    Math.min(Math.max(1, request.timeoutMs), timerMsMax),
  );
  let watching: NodeJS.Timeout | undefined;
  const watch = (directory: string): void => {
    watching = setTimeout(async () => {
      const started = performance.now();
      await checkedSize(directory, request.bytesMax).catch((error: unknown) => limits.abort(error));
      // A look at a large tree takes its time; at most a fifth of a core goes into it.
      if (watching !== undefined) watching = setTimeout(() => watch(directory), 4 * (performance.now() - started));
    }, sizeWatchMs);
  };
  const signal = AbortSignal.any([request.signal, limits.signal]);
  try {
    return await work(signal, watch);
  } catch (error) {
    signal.throwIfAborted(); // the reason, rather than what git said when it was killed
    throw error;
  } finally {
    clearTimeout(timeout);
    clearTimeout(watching);
    watching = undefined;
  }
}

async function checkedSize(directory: string, bytesMax: number): Promise<{ bytes: number }> {
  const { bytes, entries, tooDeep } = await directorySize(directory, filesMax);
  if (bytes > bytesMax) throw limitExceeded('disk_gb', `the repository has more than ${bytesMax} bytes`);
  if (entries > filesMax) throw limitExceeded('disk_gb', `the repository has more than ${filesMax} files`);
  if (tooDeep) throw limitExceeded('disk_gb', 'the repository has directories nested deeper than they can be measured');
  return { bytes };
}

function limitExceeded(limit: string, message: string): StepFailure {
  return new StepFailure(failureCodes.limitExceeded, message, { retryable: false, details: { limit } });
}

function mustWork(end: GitEnd, address: RepositoryAddress): GitEnd {
  if (end.exitCode === 0) return end;
  const said = redactAddress(end.stderr).trim().slice(-500);
  throw new StepFailure('git_clone_failed', `cannot fetch ${address.shown}: ${said === '' ? `git ended with ${end.exitCode ?? 'a signal'}` : said}`, {
    retryable: true,
  });
}

/** Stands beside the clone, so that nothing inside a repository is trusted or run to learn what it is. */
function markerOf(directory: string): string {
  return join(dirname(directory), `.${basename(directory)}.clone.json`);
}

async function finishedClone(directory: string): Promise<CloneResult | null> {
  const there = await lstat(directory).catch(() => undefined);
  if (!there?.isDirectory()) return null;
  try {
    const file = await openFileBelow(dirname(directory), [basename(markerOf(directory))]);
    const text = await file.readFile('utf8').finally(() => file.close());
    const marker = JSON.parse(text) as CloneResult;
    return commitShape.test(marker.commit) && Number.isSafeInteger(marker.sizeBytes) ? marker : null;
  } catch {
    return null; // no marker, or one that was cut: the clone was not finished
  }
}

async function removeHalfDone(directory: string): Promise<void> {
  await rm(markerOf(directory), { force: true });
  await removeTree(directory);
  const parent = dirname(directory);
  const partials = (await readdir(parent)).filter((name) => name.startsWith(`${basename(directory)}.partial-`));
  for (const name of partials) await removeTree(join(parent, name));
}
