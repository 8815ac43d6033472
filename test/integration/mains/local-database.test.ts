import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { type Config, loadConfig } from '../../../config.js';
import { clusterUrl, prepareCluster } from '../../../db/server/postgres-cluster.js';
import { besideLocal } from '../../../mains/local-database.js';
import { processStartTime, writeProcessFile } from '../../../mains/process-file.js';

async function newHome(): Promise<string> {
  const home = await mkdtemp(path.join(tmpdir(), 'beside-'));
  onTestFinished(() => rm(home, { recursive: true }));
  await chmod(home, 0o755); // the user of PostgreSQL passes through, so that its data stays in the home
  return home;
}

/** Tells that a server of the home runs on a port; it is this process. */
async function runs(home: string, name: 'postgres' | 'temporal', port: number, startTime?: string): Promise<void> {
  await writeProcessFile(home, name, { pid: process.pid, startTime: startTime ?? (await processStartTime(process.pid)) ?? '', port, version: '1' });
}

const configOf = (home: string, env: Readonly<Record<string, string>> = {}): Config => loadConfig({ ORCHESTRA_HOME: home, ...env });

test('a main that is started beside an installation finds its database and its Temporal [MODEL-17]', async () => {
  const home = await newHome();
  await runs(home, 'postgres', 54_321);
  const cluster = await prepareCluster(home, () => {});
  const given = configOf(home);
  const alone = await besideLocal(given);
  expect(alone).toEqual({ ...given, database: { ...given.database, url: clusterUrl(cluster, 54_321) } });

  await runs(home, 'temporal', 7_777, 'an earlier process with this number');
  expect((await besideLocal(given)).temporal.address).toBeNull();
  await runs(home, 'temporal', 7_777);
  expect((await besideLocal(given)).temporal).toEqual({ ...given.temporal, address: '127.0.0.1:7777' });
  const named = configOf(home, { TEMPORAL_ADDRESS: 'temporal.example:7233' });
  expect((await besideLocal(named)).temporal.address).toBe('temporal.example:7233');
});

test('a database that is named is taken, with nothing of the installation of this machine', async () => {
  const home = await newHome();
  await runs(home, 'postgres', 54_321);
  await runs(home, 'temporal', 7_777);
  const given = configOf(home, { DATABASE_URL: 'postgres://db.example/orchestra' });
  expect(await besideLocal(given)).toBe(given);
});

test.each([
  ['none was ever started', async () => {}],
  ['it has ended', (home: string) => runs(home, 'postgres', 54_321, 'an earlier process with this number')],
])('without a named database and a running installation it is said what to do: %s', async (_why, prepare) => {
  const home = await newHome();
  await prepare(home);
  await expect(besideLocal(configOf(home))).rejects.toThrow(
    `No installation runs in ${home}: start it with \`orchestra up\`, or name its database with DATABASE_URL.`,
  );
});
