import { expect, test } from 'vitest';
import { orphanRunners } from '../../../activities/backends/server/orphan-runners.js';
import type { RunningProcess } from '../../../running-processes.js';

const modelsDir = '/home/ada/.orchestra/ollama/models';
const blob = `${modelsDir}/blobs/sha256-1`;
const runner = (pid: number, parentPid: number, model = blob): RunningProcess => ({
  pid,
  parentPid,
  args: ['/usr/bin/ollama', 'runner', '--ollama-engine', '--model', model, '--port', '4000'],
  cwd: null,
});
const server: RunningProcess = { pid: 10, parentPid: 1, args: ['/usr/bin/ollama', 'serve'], cwd: null };

test('a runner whose server is gone is an orphan, whoever its parent is now', () => {
  expect(orphanRunners([runner(20, 1), runner(21, 7), { pid: 7, parentPid: 1, args: ['/lib/systemd/systemd', '--user'], cwd: null }], modelsDir)).toEqual([
    20, 21,
  ]);
});

test('a runner of a living server is none', () => {
  expect(orphanRunners([server, runner(20, server.pid)], modelsDir)).toEqual([]);
});

test("another installation's runner, and other programs that name our models, are left alone", () => {
  const others = [
    runner(20, 1, '/home/ada/.ollama/models/blobs/sha256-1'),
    runner(21, 1, `${modelsDir}-old/blobs/sha256-1`),
    { pid: 22, parentPid: 1, args: ['/bin/cat', blob], cwd: null },
    { pid: 23, parentPid: 1, args: ['/usr/bin/ollama', 'runner'], cwd: null },
    { pid: 24, parentPid: 1, args: [], cwd: null },
  ];
  expect(orphanRunners(others, modelsDir)).toEqual([]);
});
