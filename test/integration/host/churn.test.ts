import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Context } from '@temporalio/activity';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { modelQueue } from '../../../contract/queues.js';
import { createWorkerSet } from '../../../host/worker-set.js';
import { connectClient, connectNative } from '../../../temporal/client.js';
import { createActivityWorker, createWorkflowWorker } from '../../../temporal/worker.js';
import { testLog } from '../../support/host-parts.js';
import { takeNamespace, temporalAddress } from '../../support/servers.js';

let cacheDir: string;
let client: Awaited<ReturnType<typeof connectClient>>;
let native: Awaited<ReturnType<typeof connectNative>>;
let namespace: string;

beforeAll(async () => {
  namespace = takeNamespace();
  const target = { address: temporalAddress(), namespace };
  [client, native] = await Promise.all([connectClient(target), connectNative(target)]);
  cacheDir = await mkdtemp(path.join(tmpdir(), 'bundle-'));
});

afterAll(async () => {
  await native?.close();
  await client?.connection.close();
  await rm(cacheDir, { recursive: true });
});

test('sixty quick starts and stops of a worker under backlog lose no activity [fault-9]', { timeout: 180_000 }, async () => {
  const key = 'churn:latest~ctx512';
  const queue = modelQueue('churn', key);
  const activities = 240;
  const ran = new Map<number, number>();
  let onCount: () => void = () => {};
  const counted = () => new Promise<void>((resolve) => void (onCount = resolve));
  const count = async (index: number) => {
    Context.current().heartbeat();
    ran.set(index, (ran.get(index) ?? 0) + 1);
    onCount();
    return index;
  };
  const workers = createWorkerSet(
    (): ReturnType<typeof createActivityWorker> =>
      createActivityWorker({ connection: native, namespace, taskQueue: queue, activities: { count }, slots: 1, graceMs: 10_000 }),
    () => {},
    testLog,
  );
  const folder = path.join(import.meta.dirname, 'churn');
  const workflows = await createWorkflowWorker({
    connection: native,
    namespace,
    activities: {},
    log: testLog,
    cacheDir,
    bundle: { workflowsPath: path.join(folder, 'workflow.ts'), sources: [folder] },
  });
  await workflows.runUntil(async () => {
    const handle = await client.workflow.start('backlog', { workflowId: `backlog-${crypto.randomUUID()}`, taskQueue: 'workflows', args: [queue, activities] });
    for (let cycle = 0; cycle < 60; cycle += 1) {
      const next = counted();
      await workers.start(key);
      // Stopped while the next poll is under way, right after an activity began.
      if (ran.size < activities) await next;
      await workers.stop(key);
    }
    await workers.start(key);
    expect(await handle.result()).toBe(activities);
    await workers.stopAll();
  });
  expect(ran.size).toBe(activities);
  expect([...ran.values()].filter((times) => times > 1)).toEqual([]);
});
