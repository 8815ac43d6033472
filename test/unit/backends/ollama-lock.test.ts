import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { lockOllama, OllamaInUse } from '../../../activities/backends/ollama-lock.js';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'lock-test-'));
});
afterEach(() => rm(dir, { recursive: true }));

const address = '127.0.0.1:11434';

/** The lock of another process, as that process would have written it. */
async function lockOf(pid: number, started?: string): Promise<string> {
  const mine = await lockOllama(address, dir, '/srv/mine');
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  await writeFile(mine.file, JSON.stringify({ pid, started: started ?? stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19], home: '/srv/other' }));
  return mine.file;
}

test('a second installation on one Ollama is refused, and told which is the first', async () => {
  const other = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
  await once(other, 'spawn');
  try {
    const file = await lockOf(other.pid ?? 0);
    const before = await readFile(file, 'utf8');
    const refusal = lockOllama(address, dir, '/srv/mine');
    await expect(refusal).rejects.toBeInstanceOf(OllamaInUse);
    await expect(refusal).rejects.toThrow(/\/srv\/other.*OLLAMA_HOST/);
    expect(await readFile(file, 'utf8')).toBe(before);
  } finally {
    other.kill('SIGKILL');
  }
});

test('the lock of a process that ended, or whose pid is another process now, is taken over', async () => {
  const ended = spawn(process.execPath, ['-e', ''], { stdio: 'ignore' });
  await once(ended, 'exit');
  await lockOf(ended.pid ?? 0, '12345');
  await expect(lockOllama(address, dir, '/srv/mine')).resolves.toBeDefined();
  await lockOf(process.ppid, 'another moment');
  await expect(lockOllama(address, dir, '/srv/mine')).resolves.toBeDefined();
});

test('a damaged lock file is no obstacle', async () => {
  const { file } = await lockOllama(address, dir, '/srv/mine');
  await writeFile(file, '{"pid":');
  await expect(lockOllama(address, dir, '/srv/mine')).resolves.toBeDefined();
});

test('a released lock leaves nothing behind, and never removes the lock of another', async () => {
  const mine = await lockOllama(address, dir, '/srv/mine');
  await mine.release();
  expect(await readdir(dir)).toEqual([]);
  const again = await lockOllama(address, dir, '/srv/mine');
  await writeFile(again.file, 'of another');
  await again.release();
  expect(await readFile(again.file, 'utf8')).toBe('of another');
});

test('spellings of one address are one lock, other addresses are others', async () => {
  const { file } = await lockOllama('http://localhost:11434/', dir, '/srv/mine');
  expect((await lockOllama('0.0.0.0', dir, '/srv/mine')).file).toBe(file);
  expect((await lockOllama(':11435', dir, '/srv/mine')).file).not.toBe(file);
});
