import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { lockOllama } from '../../../activities/backends/ollama-lock.js';
import { claimServer } from '../../../mains/claim-server.js';
import { type HostRig, keyOf, startHostRig } from '../../support/host-rig.js';
import { createMemoryBackend } from '../../support/memory-backend.js';
import { eventually } from '../../support/servers.js';

const address = 'http://127.0.0.1:11434';
const model = 'shared:latest';
let rig: HostRig;
let cacheDir: string;

beforeAll(async () => {
  rig = await startHostRig();
  cacheDir = await mkdtemp(path.join(tmpdir(), 'shared-'));
}, 60_000);
afterAll(async () => {
  await rig?.stop();
  await rm(cacheDir, { recursive: true });
});

const hostRow = async () => (await rig.sql<{ ready: boolean; why: string | null }[]>`select ready, info ->> 'why' as why from hosts where id = ${rig.host}`)[0];
const stateOf = async (row: string) => (await rig.sql<{ state: string }[]>`select state from line where id = ${row}`)[0]?.state;

/** A process that holds the server as another installation would, until it is killed. */
async function otherInstallation(): Promise<{ kill(): Promise<void> }> {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
  await once(child, 'spawn');
  const { file } = await lockOllama(address, cacheDir, '/srv/other');
  const stat = await readFile(`/proc/${child.pid}/stat`, 'utf8');
  await writeFile(file, JSON.stringify({ pid: child.pid, started: stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19], home: '/srv/other' }));
  return {
    async kill() {
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      await exited;
    },
  };
}

test('the second installation on one model server touches nothing, says why, and goes on when the first has gone [MODEL-01]', async () => {
  const other = await otherInstallation();
  const claim = claimServer(address, { cacheDir, home: '/srv/mine' });
  const backend = createMemoryBackend([model]);
  const { notOurs } = claim;
  await rig.startHost({ models: backend, notOurs, times: { retryEveryMs: 20 } });
  const row = await rig.waitFor(keyOf(model));
  const told = await eventually(async () => ((await hostRow())?.why ? hostRow() : null));
  expect(told).toEqual({ ready: false, why: expect.stringMatching(/used by another installation \(\/srv\/other, process \d+\).*OLLAMA_HOST/) });
  expect(await stateOf(row)).toBe('waiting');
  expect(backend.loads()).toBe(0);

  await other.kill();
  await eventually(async () => (await stateOf(row)) === 'granted');
  expect(await hostRow()).toMatchObject({ ready: true });
  expect(backend.loads()).toBe(1);
  await rig.endRow(row);
  await claim.release();
});
