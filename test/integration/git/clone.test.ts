import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { lstat, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { createGitClient } from '../../../activities/git/clone.js';
import type { CloneRequest } from '../../../activities/git/git-client.js';
import { git, type ServedRepositories, serveRepositories } from './served-repository.js';

const log = pino({ level: 'silent' });
const client = createGitClient({ allowedSchemes: ['https', 'ssh', 'file'], log });
let sources: string;
let first: string;
let head: string;
let served: ServedRepositories;
let workspace: string;

beforeAll(async () => {
  sources = await mkdtemp(join(tmpdir(), 'git-sources-'));
  const repository = join(sources, 'plain');
  await mkdir(repository);
  git(repository, 'init', '-q');
  await writeFile(join(repository, 'hello.txt'), 'one\n');
  git(repository, 'add', '.');
  git(repository, 'commit', '-qm', 'first');
  first = git(repository, 'rev-parse', 'HEAD');
  git(repository, 'tag', '-a', 'v1', '-m', 'version 1');
  await writeFile(join(repository, 'hello.txt'), 'two\n');
  await symlink('/etc/passwd', join(repository, 'link'));
  git(repository, 'add', '.');
  git(repository, 'commit', '-qm', 'second');
  head = git(repository, 'rev-parse', 'HEAD');
  git(repository, 'branch', 'feature/x', first);
  await mkdir(join(sources, 'empty'));
  git(join(sources, 'empty'), 'init', '-q');
  served = await serveRepositories(sources);
});
afterAll(async () => {
  await served.close();
  await rm(sources, { recursive: true });
});
beforeEach(async () => {
  workspace = await mkdtemp(join(tmpdir(), 'git-clones-'));
});
afterEach(() => rm(workspace, { recursive: true }));

const request = (changes: Partial<CloneRequest> = {}): CloneRequest => ({
  repo: `file://${join(sources, 'plain')}`,
  depth: 1,
  directory: join(workspace, 'repository'),
  timeoutMs: 30_000,
  bytesMax: 50e6,
  signal: new AbortController().signal,
  ...changes,
});
const content = (): Promise<string> => readFile(join(workspace, 'repository/hello.txt'), 'utf8');

test('a clone says which commit it is, and keeps no more history than asked [TPL-08]', async () => {
  const result = await client.clone(request());
  expect(result.commit).toBe(head);
  expect(result.sizeBytes).toBeGreaterThan(0);
  expect(await content()).toBe('two\n');
  expect(git(join(workspace, 'repository'), 'rev-list', '--count', 'HEAD')).toBe('1');
});

test.each([
  ['a tag', () => 'v1'],
  ['a branch', () => 'feature/x'],
  ['a full ref', () => 'refs/heads/feature/x'],
  ['a commit', () => first],
])('%s is fetched by its name', async (_, ref) => {
  expect((await client.clone(request({ ref: ref() }))).commit).toBe(first);
  expect(await content()).toBe('one\n');
});

test.each(['-x', '--orphan', 'refs/../..', 'a..b', 'a b', 'x.lock', 'a//b', '@{-1}', 'HEAD^', 'a:b', '', '.x', 'no-such-branch', '0'.repeat(40)])(
  'the ref %j fails at once and is not tried again [bad-37]',
  async (ref) => {
    await expect(client.clone(request({ ref }))).rejects.toMatchObject({ code: 'git_ref_not_found', retryable: false });
    expect(await readdir(workspace)).toEqual([]);
  },
);

test('an empty repository fails at once [bad-37]', async () => {
  await expect(client.clone(request({ repo: `file://${join(sources, 'empty')}` }))).rejects.toMatchObject({ code: 'git_ref_not_found', retryable: false });
});

test('a link in a repository becomes a text that leads nowhere [bad-36]', async () => {
  await client.clone(request());
  expect((await lstat(join(workspace, 'repository/link'))).isFile()).toBe(true);
  expect(await readFile(join(workspace, 'repository/link'), 'utf8')).toBe('/etc/passwd');
});

test('hooks, filters and submodules of a repository do nothing [bad-35]', async () => {
  const evil = join(sources, 'evil');
  const touched = join(workspace, 'touched');
  await mkdir(join(evil, '.githooks'), { recursive: true });
  git(evil, 'init', '-q');
  await writeFile(join(evil, '.githooks/post-checkout'), `#!/bin/sh\ntouch ${touched}\n`, { mode: 0o755 });
  await writeFile(join(evil, '.gitattributes'), '* filter=evil\n');
  await writeFile(join(evil, '.lfsconfig'), '[lfs]\nurl = http://127.0.0.1:1/\n');
  await writeFile(join(evil, 'file'), 'x');
  git(evil, 'submodule', '--quiet', 'add', `file://${join(sources, 'plain')}`, 'inner');
  git(evil, 'add', '.');
  git(evil, 'commit', '-qm', 'evil');
  await client.clone(request({ repo: `file://${evil}` }));
  expect(existsSync(touched)).toBe(false);
  expect(await readdir(join(workspace, 'repository/inner'))).toEqual([]);
  expect(existsSync(join(workspace, 'repository/.git/modules'))).toBe(false);
  expect(await readdir(join(workspace, 'repository/.git'))).not.toContain('hooks');
});

test('a repository larger than its limit is refused and leaves nothing behind [bad-35]', async () => {
  const big = join(sources, 'big');
  await mkdir(big);
  git(big, 'init', '-q');
  await writeFile(join(big, 'noise'), randomBytes(5_000_000));
  git(big, 'add', '.');
  git(big, 'commit', '-qm', 'big');
  await expect(client.clone(request({ repo: `file://${big}`, bytesMax: 1_000_000 }))).rejects.toMatchObject({
    code: 'limit_exceeded',
    retryable: false,
    details: { limit: 'disk_gb' },
  });
  expect(await readdir(workspace)).toEqual([]);
});

test('a finished clone of the same commit is kept, and a half-finished one is made anew [DUR-07]', async () => {
  await client.clone(request());
  await writeFile(join(workspace, 'repository/mine'), 'kept');
  expect((await client.clone(request())).commit).toBe(head);
  expect(existsSync(join(workspace, 'repository/mine'))).toBe(true);

  expect((await client.clone(request({ ref: 'v1' }))).commit).toBe(first);
  expect(existsSync(join(workspace, 'repository/mine'))).toBe(false);

  await rm(join(workspace, '.repository.clone.json'));
  await rm(join(workspace, 'repository/hello.txt'));
  await mkdir(join(workspace, 'repository.partial-1'));
  await client.clone(request({ ref: 'v1' }));
  expect(await content()).toBe('one\n');
  expect((await readdir(workspace)).sort()).toEqual(['.repository.clone.json', 'repository']);
});

test('a scheme that is not allowed is refused before git is started [bad-32, TPL-08]', async () => {
  const strict = createGitClient({ allowedSchemes: ['https', 'ssh'], log });
  await expect(strict.clone(request())).rejects.toMatchObject({ code: 'git_url_refused', retryable: false });
});

test.each([
  'https://127.0.0.1/x',
  'https://0x7f.1/x',
  'https://[::ffff:127.0.0.1]/x',
  'https://localhost/x',
  'https://169.254.169.254/x',
  'ssh://git@10.0.0.1/x',
  'git@192.168.1.1:x',
])('%s is refused, since it is not on the public internet [bad-33]', async (repo) => {
  await expect(client.clone(request({ repo }))).rejects.toMatchObject({
    code: 'git_url_refused',
    retryable: false,
    message: expect.stringContaining('public internet'),
  });
});

test('over HTTP the same holds, and only a listed host may be private [bad-33]', async () => {
  const refusing = createGitClient({ allowedSchemes: ['http'], log });
  await expect(refusing.clone(request({ repo: `${served.url}/plain/.git` }))).rejects.toMatchObject({ code: 'git_url_refused' });
  const allowing = createGitClient({ allowedSchemes: ['http'], allowedHosts: [served.host], log });
  expect((await allowing.clone(request({ repo: `${served.url}/plain/.git` }))).commit).toBe(head);
});

test('a redirect is not followed [bad-33]', async () => {
  const allowing = createGitClient({ allowedSchemes: ['http'], allowedHosts: [served.host], log });
  await expect(allowing.clone(request({ repo: `${served.url}/redirect/plain/.git` }))).rejects.toMatchObject({ code: 'git_clone_failed' });
});

test('credentials open a repository and are found nowhere afterwards [bad-34]', async () => {
  const lines: string[] = [];
  const listening = createGitClient({
    allowedSchemes: ['http'],
    allowedHosts: [served.host],
    log: pino({ level: 'trace' }, { write: (line: string) => lines.push(line) }),
  });
  const repo = `http://me:hunter2@${served.host}/locked/plain/.git`;
  expect((await listening.clone(request({ repo }))).commit).toBe(head);
  expect(served.requests.at(-1)?.headers.authorization).toBe(`Basic ${Buffer.from('me:hunter2').toString('base64')}`);
  expect(lines.join()).not.toContain('hunter2');
  for (const entry of await readdir(join(workspace, 'repository'), { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) expect((await readFile(join(entry.parentPath, entry.name))).includes('hunter2')).toBe(false);
  }
  const failure: unknown = await listening.clone(request({ repo: repo.replace('plain', 'absent') })).catch((error: unknown) => error);
  expect(JSON.stringify(failure) + String(failure)).not.toContain('hunter2');
  expect(failure).toMatchObject({ code: 'git_clone_failed', retryable: true });
});

test('a server that never answers is given up at the time limit, and git is gone [bad-35, TASK-16]', async () => {
  const waiting = createGitClient({ allowedSchemes: ['http'], allowedHosts: [served.host], log });
  const clone = waiting.clone(request({ repo: `${served.url}/never/plain/.git`, timeoutMs: 500 }));
  await expect(clone).rejects.toMatchObject({ code: 'limit_exceeded', details: { limit: 'timeout_seconds' } });
});

test('a cancelled clone ends with the reason and leaves nothing behind', async () => {
  const abort = new AbortController();
  const waiting = createGitClient({ allowedSchemes: ['http'], allowedHosts: [served.host], log });
  const clone = waiting.clone(request({ repo: `${served.url}/never/x`, signal: abort.signal }));
  setTimeout(() => abort.abort(new Error('cancelled by its owner')), 50);
  await expect(clone).rejects.toThrow('cancelled by its owner');
  expect(await readdir(workspace)).toEqual([]);
});
