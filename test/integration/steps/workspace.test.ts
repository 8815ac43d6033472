import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { directorySize } from '../../../activities/directory-size.js';
import { createWorkspaces, removeTree, type TaskAttempt } from '../../../activities/workspace.js';

const taskId = '0197a000-0000-7000-8000-000000000001';
const other = '0197a000-0000-7000-8000-000000000002';
let home: string;
let root: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'workspaces-'));
  root = join(home, 'workspaces');
});
afterEach(() => rm(home, { recursive: true }));

test('each attempt has a directory of its own, closed to others and made once [CONC-11]', async () => {
  const workspaces = createWorkspaces(root);
  const paths = await Promise.all([1, 1, 2].map((attempt) => workspaces.create({ taskId, attempt })));
  expect(paths).toEqual([join(root, taskId, '1'), join(root, taskId, '1'), join(root, taskId, '2')]);
  expect((await stat(paths[0] as string)).mode & 0o777).toBe(0o700);
});

test('a removed workspace is gone whatever a script left in it, and what its links lead to stays', async () => {
  const workspaces = createWorkspaces(root);
  const path = await workspaces.create({ taskId, attempt: 1 });
  await writeFile(join(home, 'victim'), 'untouched');
  await symlink(home, join(path, 'link'));
  await mkdir(join(path, 'closed/inner'), { recursive: true });
  await chmod(join(path, 'closed/inner'), 0);
  await chmod(join(path, 'closed'), 0);
  await workspaces.remove({ taskId, attempt: 1 });
  await workspaces.remove({ taskId, attempt: 1 });
  expect(await readdir(root)).toEqual([]);
  expect(await readFile(join(home, 'victim'), 'utf8')).toBe('untouched');
});

test('a removed workspace is gone however deep a script nested directories in it, and whatever bytes their names have [bad-30]', async () => {
  const workspaces = createWorkspaces(root);
  const path = await workspaces.create({ taskId, attempt: 1 });
  await nest(path, 60);
  await workspaces.remove({ taskId, attempt: 1 });
  expect(await readdir(root)).toEqual([]);
});

test('what cannot be measured, since its path is too long, is told [bad-30]', async () => {
  const path = await createWorkspaces(root).create({ taskId, attempt: 1 });
  await nest(path, 2);
  expect(await directorySize(path, 1000)).toMatchObject({ bytes: 1_048_576, tooDeep: false });
  await nest(path, 60);
  expect(await directorySize(path, 1000)).toMatchObject({ tooDeep: true });
  await removeTree(path);
});

test('a sweep takes the ended attempts, and leaves those that live, that begin meanwhile, and that nobody knows [CONC-11]', async () => {
  const workspaces = createWorkspaces(root);
  for (const attempt of [1, 2]) await workspaces.create({ taskId, attempt });
  await workspaces.create({ taskId: other, attempt: 1 });
  await writeFile(join(root, 'not-ours'), '');
  const late = '00000000-0000-4000-8000-00000000000c';
  const unknown = '00000000-0000-4000-8000-00000000000d';
  await workspaces.create({ taskId: unknown, attempt: 1 });
  await mkdir(join(root, '00000000-0000-4000-8000-00000000000e')); // left empty by a crash
  const ended = async (found: readonly TaskAttempt[]) => {
    await workspaces.create({ taskId: late, attempt: 1 });
    return found.filter(({ taskId: id, attempt }) => id === other || (id === taskId && attempt === 1));
  };
  expect(await workspaces.sweep(ended)).toBe(2);
  expect((await readdir(root)).sort()).toEqual([taskId, unknown, late, 'not-ours'].sort());
  expect(await readdir(join(root, taskId))).toEqual(['2']);
});

test('a sweep of a root that is not there finds nothing', async () => {
  expect(await createWorkspaces(root).sweep(async () => [])).toBe(0);
});

test.each([
  ['../x', 1],
  [taskId, 0],
  [taskId, 1.5],
])('no workspace is made for task %j, attempt %j', async (id, attempt) => {
  await expect(createWorkspaces(root).create({ taskId: id, attempt })).rejects.toThrow('no workspace');
}); // prettier-ignore

/** Directories within each other whose names are no UTF-8, closed to their owner, with a file of 1 MiB in the innermost; by relative steps, as a script makes them. */
async function nest(path: string, depth: number): Promise<void> {
  const code = `
import os
name = b'\\xff' * 100
os.chdir(${JSON.stringify(path)})
for _ in range(${depth}):
    if not os.path.isdir(name): os.mkdir(name)
    os.chdir(name)
with open('file', 'wb') as file: file.write(b'x' * 1048576)
os.chmod('.', 0)`;
  await promisify(execFile)('python3', ['-c', code]);
}
