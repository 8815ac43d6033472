import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { lstat, mkdir, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { namesOf, openFileBelow } from '../../../activities/open-below.js';
import type { StepContext } from '../../../activities/steps/define-step.js';
import { formatOutput } from '../../../activities/steps/format-output.js';
import { readFiles } from '../../../activities/steps/read-files.js';
import { storeResult } from '../../../activities/steps/store-result.js';
import { type OwnContext, stepContext } from './step-context.js';

let context: OwnContext;
let files: string;
beforeEach(async () => {
  context = await stepContext();
  files = join(context.home, 'files');
});
afterEach(() => context.remove());

const read = async (...names: string[]) => (await readFiles.run({ files: names }, context)).files;
const store = (path: string, previous: Record<string, unknown> | null = { text: 'result' }) =>
  storeResult.run({ path }, { ...context, previous } as StepContext);

test('files come in the order in which they are named, text as text and the rest as base64 [TPL-12, bad-39]', async () => {
  await mkdir(join(files, 'sub'));
  await writeFile(join(files, 'b.txt'), 'größe\n');
  await writeFile(join(files, 'sub/a\nb.bin'), Buffer.from([0xff, 0, 1]));
  await writeFile(join(context.workspace, 'own.txt'), 'from the workspace');
  expect(await read('b.txt', 'sub/a\nb.bin', join(files, 'b.txt'), 'own.txt')).toEqual([
    { path: 'b.txt', content: 'größe\n', size_bytes: 8, encoding: 'utf-8' },
    { path: 'sub/a\nb.bin', content: '/wAB', size_bytes: 3, encoding: 'base64' },
    { path: join(files, 'b.txt'), content: 'größe\n', size_bytes: 8, encoding: 'utf-8' },
    { path: 'own.txt', content: 'from the workspace', size_bytes: 18, encoding: 'utf-8' },
  ]);
});

test('patterns find regular files, sorted, and neither links nor hidden files [TPL-12, bad-38]', async () => {
  await mkdir(join(files, 'a/b'), { recursive: true });
  for (const name of ['a/b/deep.md', 'a/x.md', 'top.md', '.hidden.md', 'top.txt']) await writeFile(join(files, name), name);
  await symlink('/etc', join(files, 'etc'));
  await symlink('/etc/passwd', join(files, 'link.md'));
  expect((await read('**/*.md')).map(({ path }) => path)).toEqual(['a/b/deep.md', 'a/x.md', 'top.md']);
  expect((await read('a/*.md')).map(({ path }) => path)).toEqual(['a/x.md']);
  await expect(read('etc/*')).rejects.toMatchObject({ code: 'file_not_found', retryable: false });
});

test('a missing file names itself [TPL-12]', async () => {
  await expect(read('absent.txt')).rejects.toMatchObject({ code: 'file_not_found', message: expect.stringContaining('absent.txt') });
});

test.each([
  '../../etc/passwd',
  '/etc/shadow',
  '/proc/self/environ',
  '/dev/zero',
  'fifo',
  'socket',
  'directory',
  'link',
  'linked/passwd',
  'x\0y',
  '../files-not/secret',
  '.',
  '/',
])('%j is not read, and nothing waits [bad-38]', async (name) => {
  execFileSync('mkfifo', [join(files, 'fifo')]);
  await mkdir(join(files, 'directory'));
  await symlink('/etc/passwd', join(files, 'link'));
  await symlink('/etc', join(files, 'linked'));
  await mkdir(`${files}-not`);
  await writeFile(`${files}-not/secret`, 'secret');
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(join(files, 'socket'), resolve));
  await expect(read(name)).rejects.toMatchObject({ code: 'path_refused', retryable: false });
  await expect(read(`${files}-not/secret`)).rejects.toMatchObject({ code: 'path_refused' });
  await new Promise((resolve) => server.close(resolve));
});

test('a file swapped for a link while it is read never shows what the link leads to [bad-38]', async () => {
  await writeFile(join(context.home, 'secret'), 'secret');
  await mkdir(join(files, 'sub'));
  let swapping = true;
  const swap = (async () => {
    while (swapping) {
      await writeFile(join(files, 'plain'), 'open');
      await rename(join(files, 'plain'), join(files, 'sub/target'));
      await symlink(join(context.home, 'secret'), join(files, 'plain'));
      await rename(join(files, 'plain'), join(files, 'sub/target'));
    }
  })();
  const seen = new Set<string>();
  for (let round = 0; round < 300; round += 1) {
    await read('sub/target').then(
      ([file]) => seen.add(file?.content ?? ''),
      (error: { code: string }) => seen.add(error.code),
    ); // prettier-ignore
  }
  swapping = false;
  await swap;
  expect([...seen].filter((one) => !['open', '', 'path_refused', 'file_not_found'].includes(one))).toEqual([]);
});

test('no relative path opens a file outside its root [TPL-12, SEC-14]', async () => {
  await writeFile(join(context.home, 'a'), 'outside');
  await writeFile(join(files, 'a'), 'inside');
  await mkdir(join(files, 'b'));
  await symlink('..', join(files, 'b/..x'));
  await symlink('../..', join(files, 'c'));
  const part = fc.constantFrom('a', 'b', 'c', '..', '.', '', '..x', '...', '\0', '~', '%2e%2e', '..\\', 'files');
  await fc.assert(
    fc.asyncProperty(fc.array(part, { maxLength: 6 }), fc.boolean(), async (parts, absolute) => {
      const path = (absolute ? '/' : '') + parts.join('/');
      const content = await (async () => {
        const handle = await openFileBelow(files, namesOf(path));
        return handle.readFile('utf8').finally(() => handle.close());
      })().catch(() => 'refused');
      expect(['inside', 'refused']).toContain(content);
    }),
    { numRuns: 500 },
  );
});

test.each([
  ['file_bytes', { big: 1001 }],
  ['files_bytes', { a: 900, b: 900, c: 900 }],
  ['files_max', { a: 1, b: 1, c: 1, d: 1, e: 1, f: 1 }],
])('reading stops at the limit %s [bad-39]', async (limit, sizes) => {
  for (const [name, size] of Object.entries(sizes)) await writeFile(join(files, name), 'x'.repeat(size as number));
  await expect(read('*')).rejects.toMatchObject({ code: 'limit_exceeded', details: { limit } });
});

test('a result is stored whole below the directory of its task, JSON as JSON and text as text [TPL-10, bad-46]', async () => {
  const json = await store('a/b/result.json', { text: 'x', n: 1 });
  const written = await readFile(join(context.resultsRoot, context.taskId, 'a/b/result.json'));
  expect(JSON.parse(written.toString())).toEqual({ text: 'x', n: 1 });
  expect(json).toEqual({ path: `${context.taskId}/a/b/result.json`, size_bytes: written.length, sha256: createHash('sha256').update(written).digest('hex') });
  await store('text.md', { text: '# hi' });
  expect(await readFile(join(context.resultsRoot, context.taskId, 'text.md'), 'utf8')).toBe('# hi');
});

test('a repeat replaces the file of its own task and leaves no other [DUR-07, TPL-10]', async () => {
  await store('r.txt', { text: 'old' });
  await Promise.all(Array.from({ length: 10 }, (_, n) => store('r.txt', { text: `new ${n}` })));
  expect(await readdir(join(context.resultsRoot, context.taskId))).toEqual(['r.txt']);
  expect(await readFile(join(context.resultsRoot, context.taskId, 'r.txt'), 'utf8')).toMatch(/^new \d$/);
});

test.each(['../other/x', '/etc/x', 'link/x', 'directory', 'file/x', 'n'.repeat(256), 'a/../../x'])('%j is no place for a result [TPL-10]', async (path) => {
  const own = join(context.resultsRoot, context.taskId);
  await mkdir(join(own, 'directory/inner'), { recursive: true });
  await writeFile(join(own, 'file'), '');
  await symlink(context.home, join(own, 'link'));
  await expect(store(path)).rejects.toMatchObject({ code: 'path_refused', retryable: false });
  expect(await readdir(context.home)).toEqual(['files', 'results', 'workspace']);
  expect((await readdir(own)).filter((name) => name.startsWith('.partial'))).toEqual([]);
});

test('a step whose slot was taken back does not touch the file that its successor stored [DUR-07, TPL-10]', async () => {
  await store('r.txt', { text: 'of the successor' });
  const late = storeResult.run({ path: 'r.txt' }, { ...context, previous: { text: 'late' }, stillMine: async () => false } as StepContext);
  await expect(late).rejects.toMatchObject({ code: 'GrantVoid' });
  expect(await readdir(join(context.resultsRoot, context.taskId))).toEqual(['r.txt']);
  expect(await readFile(join(context.resultsRoot, context.taskId, 'r.txt'), 'utf8')).toBe('of the successor');
});

test('a link in the place of a result is replaced, not followed [TPL-10]', async () => {
  const own = join(context.resultsRoot, context.taskId);
  await mkdir(own);
  await writeFile(join(context.home, 'victim'), 'untouched');
  await symlink(join(context.home, 'victim'), join(own, 'r.txt'));
  await store('r.txt');
  expect((await lstat(join(own, 'r.txt'))).isFile()).toBe(true);
  expect(await readFile(join(context.home, 'victim'), 'utf8')).toBe('untouched');
  await rm(join(context.home, 'victim'));
});

test('without a step before it there is nothing to store', async () => {
  await expect(store('x', null)).rejects.toMatchObject({ code: 'invalid_step_input', retryable: false });
});

test('the result before, or data as the first step, is formatted; too much text is refused [TPL-14, bad-45]', async () => {
  const run = (input: Record<string, unknown>, previous: Record<string, unknown> | null) =>
    formatOutput.run(formatOutput.input.parse(input), { ...context, previous, limits: { ...context.limits, outputBytes: 100 } } as StepContext);
  expect(await run({ format: 'text' }, { text: 'hi' })).toEqual({ text: 'hi', format: 'text' });
  expect(await run({ format: 'json', data: { a: 1 } }, null)).toEqual({ text: '{\n  "a": 1\n}', format: 'json' });
  await expect(run({ format: 'json' }, null)).rejects.toMatchObject({ code: 'invalid_step_input' });
  await expect(run({ format: 'text' }, { text: 'x'.repeat(101) })).rejects.toMatchObject({ code: 'limit_exceeded' });
});
