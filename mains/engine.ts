import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { createLineActivities } from '../activities/line-activities.js';
import { createOrderActivities } from '../activities/residency.js';
import { createStepActivities } from '../activities/step-activities.js';
import { disconnect } from '../db/connect.js';
import { engineLives } from '../db/observations.js';
import { orderWrites } from '../db/residency.js';
import { createEngine } from '../engine/engine.js';
import { createListenHub } from './listen-hub.js';
import { startMetrics } from './metrics.js';
import { databaseUrl, openDatabase, openStepParts, openTemporal } from './parts.js';
import { markReady } from './process-file.js';
import { runMain } from './run-main.js';
import { startProbe, startSampling } from './sample-machine.js';

/** `orchestra engine`: workflows, steps without a model, and the loops that decide; there may be many. */
export async function runEngine(): Promise<void> {
  await runMain('engine', async ({ config, log, stopping }) => {
    const id = `engine-${hostname()}-${randomBytes(4).toString('hex')}`;
    const sql = await openDatabase(config, 'engine', log, stopping);
    const temporal = await openTemporal(config, log, stopping);
    const parts = await openStepParts(config, sql, log);
    const hub = createListenHub(databaseUrl(config), ['line', 'outbox', 'cancel'], log);
    const metrics = startMetrics(sql, log);
    const { renderer, line } = parts.deps;
    const engine = createEngine({
      id,
      slots: config.engine.slots,
      algorithm: config.engine.algorithm,
      sql,
      info: { sandbox: parts.fence },
      listen: hub.listen,
      client: temporal.client,
      connection: temporal.connection,
      namespace: config.temporal.namespace,
      priorityLevels: config.temporal.priorityLevels,
      cacheDir: config.cacheDir,
      localActivities: {
        ...createLineActivities({
          line,
          renderer,
          workspaces: parts.workspaces,
          meter: metrics.buffer,
          log,
        }),
        ...createOrderActivities({ ...orderWrites(sql), log }),
      },
      stepActivities: createStepActivities({ ...parts.deps, models: parts.models, engine: id }),
      running: parts.running,
      resources: { machine: hostname(), diskPath: config.home, pools: config.engine.pools },
      workspaces: parts.workspaces,
      meter: metrics.buffer,
      decisionsDays: config.engine.decisionsDays,
      collect: config.monitoring.collect,
      log,
    });
    await engine.start();
    const watches = [startSampling(sql, null, config.path, log), startProbe(sql, 'scheduling', () => engineLives(sql, id), log)];
    if (config.underUp) await markReady(config.home, 'engine', null);
    return {
      ended: engine.ended,
      drain: (signal) => engine.drain(signal),
      async stop() {
        for (const watch of watches) await watch.stop();
        await engine.stop();
        await metrics.stop();
        await hub.close();
        await temporal.close();
        await disconnect(sql);
      },
    };
  });
}
