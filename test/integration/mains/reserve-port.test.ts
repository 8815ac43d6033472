import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { releasePorts, reservePort } from '../../../mains/reserve-port.js';
import { freePort } from '../../../temporal/server/server-version.js';

async function newCache(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'ports-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  return directory;
}

test('installations that start at once get different ports, though all want the same', async () => {
  const cacheDir = await newCache();
  const wanted = await freePort();
  const ports = await Promise.all(Array.from({ length: 8 }, () => reservePort(cacheDir, wanted)));
  expect(new Set(ports).size).toBe(8);
});

test('a port that was given back, or whose process is gone, is free again', async () => {
  const cacheDir = await newCache();
  const wanted = await freePort();
  expect(await reservePort(cacheDir, wanted)).toBe(wanted);
  await releasePorts(cacheDir, [wanted]);
  await mkdir(join(cacheDir, 'ports'), { recursive: true });
  await writeFile(join(cacheDir, 'ports', String(wanted)), JSON.stringify({ pid: process.pid, startTime: 'of another process' }));
  expect(await reservePort(cacheDir, wanted)).toBe(wanted);
});
