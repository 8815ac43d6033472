import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import type { Connection } from '@temporalio/client';
import { pino } from 'pino';
import { modelQueue, workflowQueue } from '../contract/queues.js';
import { createWorkerSet } from '../host/worker-set.js';
import { connectClient, connectNative } from '../temporal/client.js';
import { ensureNamespace } from '../temporal/namespace.js';
import { createActivityWorker, createWorkflowWorker } from '../temporal/worker.js';
import { startBenchInstallation } from './installation.js';
import type { Section } from './report.js';
import { inUnits, quantile } from './statistics.js';

const key = 'churn:latest~ctx512';
/** Cycles over the backlog of one workflow, and its activities for each of them, more than a cycle runs. */
const cyclesOfOne = 50;
const activitiesOfCycle = 8;
/** An activity that begins later than this after its worker serves was not handed over when it could be. */
const lateMs = 1_000;

/** A worker of one model's queue that starts and stops under a backlog, as with each change of models: what is lost, late or run twice [fault-9]. */
export async function benchChurn(scale: number): Promise<Section> {
  const cycles = Math.max(5, Math.round(200 * scale));
  const installation = await startBenchInstallation({ models: false, env: { LOG_LEVEL: 'ERROR' } });
  const cacheDir = await mkdtemp(path.join(tmpdir(), 'churn-'));
  // The engine of the installation serves the workflows of its own namespace.
  const namespace = 'churn';
  const target = { address: installation.temporal.address, namespace };
  const client = await connectClient(target);
  await ensureNamespace(client.connection as Connection, namespace);
  const native = await connectNative(target);
  try {
    const queue = modelQueue('churn', key);
    const log = pino({ level: 'error' });
    const ran = new Map<string, number>();
    let onBegin: () => void = () => {};
    const count = async (index: number) => {
      const { heartbeat, info } = Context.current();
      heartbeat();
      const id = `${info.workflowExecution?.workflowId} ${index}`;
      ran.set(id, (ran.get(id) ?? 0) + 1);
      onBegin();
      return await Promise.resolve(index);
    };
    const workers = createWorkerSet(
      (): ReturnType<typeof createActivityWorker> =>
        createActivityWorker({ connection: native, namespace, taskQueue: queue, activities: { count }, slots: 1, graceMs: 10_000 }),
      () => {},
      log,
    );
    const folder = path.join(import.meta.dirname, '..', 'test', 'integration', 'host', 'churn');
    const workflows = await createWorkflowWorker({
      connection: native,
      namespace,
      activities: {},
      log,
      cacheDir,
      bundle: { workflowsPath: path.join(folder, 'workflow.ts'), sources: [folder] },
    });
    const waits: number[] = [];
    let [ended, sent] = [0, 0];
    await workflows.runUntil(async () => {
      for (let done = 0; done < cycles; done += cyclesOfOne) {
        const here = Math.min(cyclesOfOne, cycles - done);
        const activities = here * activitiesOfCycle;
        sent += activities;
        const before = ran.size;
        const handle = await client.workflow.start('backlog', {
          workflowId: `churn-${done}`,
          taskQueue: workflowQueue,
          args: [queue, activities],
        });
        while (((await handle.describe()).raw.pendingActivities?.length ?? 0) < activities) await delay(100);
        for (let cycle = 0; cycle < here; cycle += 1) {
          const begun = new Promise<void>((resolve) => void (onBegin = resolve));
          await workers.start(key);
          const servesMs = performance.now();
          // Stopped while the next poll is under way, right after an activity began.
          if (ran.size - before < activities) {
            await begun;
            waits.push(performance.now() - servesMs);
          }
          await workers.stop(key);
        }
        await workers.start(key);
        ended += await handle.result();
        await workers.stop(key);
      }
    });
    const late = waits.filter((ms) => ms > lateMs).length;
    const extra = [...ran.values()].reduce((sum, times) => sum + times - 1, 0);
    return {
      title: 'Workers that come and go',
      method:
        `A worker with one slot starts and stops ${cycles} times on one queue, as that of a model does with each change of models; it is stopped right after an activity began, while ${sent} activities in all are waiting or running. ` +
        'Each is sent once: one that is lost would fail its workflow.',
      figures: [
        {
          name: 'cycles with a backlog; from a worker that serves to its first activity, p50 / p95 / longest',
          ours: `${waits.length}; ${[0.5, 0.95, 1].map((share) => inUnits(quantile(waits, share))).join(' / ')}`,
          peer: '',
          ratio: '',
          bar: '',
          met: null,
        },
        { name: 'first activities later than 1 s after their worker served', ours: String(late), peer: '', ratio: '', bar: '0', met: late === 0 },
        { name: 'attempts beyond one for each activity', ours: String(extra), peer: '', ratio: '', bar: '0', met: extra === 0 },
        { name: 'activities that ended', ours: `${ended} of ${sent}`, peer: '', ratio: '', bar: 'all', met: ended === sent },
      ],
    };
  } finally {
    await native.close();
    await client.connection.close();
    await rm(cacheDir, { recursive: true, force: true });
    await installation.stop();
  }
}
