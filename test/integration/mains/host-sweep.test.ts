import { randomUUID } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { createWorkspaces } from '../../../activities/workspace.js';
import { startMain } from '../../support/main-process.js';
import { createTestDatabase, eventually, takeNamespace, temporalAddress } from '../../support/servers.js';
import { createWorld } from '../db/line-world.js';

test('a machine that runs a host alone loses the workspaces of ended attempts, and keeps those of open ones and of other installations [CONC-11]', async () => {
  const database = await createTestDatabase();
  const home = await mkdtemp(path.join(tmpdir(), 'host-sweep-'));
  const world = createWorld(database.sql);
  const [open, retried, ended] = [await world.task(), await world.task(), await world.task()];
  await database.sql`update tasks set attempt = 2 where id = ${retried.taskId}`;
  await database.sql`update tasks set status = 'cancelled', completed_at = now() where id = ${ended.taskId}`;
  const unknown = { taskId: randomUUID(), attempt: 1 };
  const root = path.join(home, 'workspaces');
  const workspaces = createWorkspaces(root);
  for (const { taskId, attempt } of [open, retried, { ...retried, attempt: 2 }, ended, unknown]) await workspaces.create({ taskId, attempt });

  const host = startMain('host', home, {
    DATABASE_URL: database.url,
    TEMPORAL_ADDRESS: temporalAddress(),
    TEMPORAL_NAMESPACE: takeNamespace(),
    OLLAMA_HOST: 'http://127.0.0.1:9', // what its model server does is of no concern
    HOST_ID: 'alone',
  });
  onTestFinished(async () => {
    await host.stop();
    await database.drop();
    await rm(home, { recursive: true });
  });
  await host.ready();
  await eventually(async () => !(await readdir(root)).includes(ended.taskId));
  await eventually(async () => (await readdir(path.join(root, retried.taskId))).join() === '2');
  expect((await readdir(root)).sort()).toEqual([open.taskId, retried.taskId, unknown.taskId].sort());
});
