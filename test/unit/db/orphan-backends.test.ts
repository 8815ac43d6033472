import { expect, test } from 'vitest';
import { orphanBackends } from '../../../db/server/orphan-backends.js';

const dataDir = '/home/ada/.orchestra/postgres/data';
const backend = (pid: number, parentPid: number, cwd: string | null = dataDir) => ({
  pid,
  parentPid,
  args: ['postgres: orchestra orchestra 127.0.0.1(40312) idle'],
  cwd,
});
const init = { pid: 1, parentPid: 0, args: ['/sbin/init'], cwd: null };
const postmaster = { pid: 10, parentPid: 1, args: ['/opt/postgres/bin/postgres', '-D', dataDir], cwd: dataDir };

test('a process of PostgreSQL whose postmaster is gone is an orphan, whoever its parent is now', () => {
  const systemd = { pid: 7, parentPid: 1, args: ['/lib/systemd/systemd', '--user'], cwd: '/' };
  expect(orphanBackends([init, backend(20, 1), systemd, backend(21, systemd.pid)], dataDir)).toEqual([20, 21]);
});

test('what works for a living postmaster is none, nor the postmaster itself', () => {
  expect(orphanBackends([init, postmaster, backend(20, postmaster.pid)], dataDir)).toEqual([]);
});

test('one that an earlier postmaster left is an orphan beside those of the living one', () => {
  expect(orphanBackends([init, postmaster, backend(20, postmaster.pid), backend(21, 1)], dataDir)).toEqual([21]);
});

test('one whose parent could not be looked at is left alone: that may be the postmaster', () => {
  expect(orphanBackends([init, backend(20, postmaster.pid)], dataDir)).toEqual([]);
});

test('those of another cluster, those whose directory is not told, and other programs in ours are left alone', () => {
  const shell = { pid: 22, parentPid: 1, args: ['/bin/bash'], cwd: dataDir };
  expect(orphanBackends([init, backend(20, 1, '/var/lib/postgresql/18/main'), backend(21, 1, null), shell], dataDir)).toEqual([]);
});
