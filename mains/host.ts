import { ollamaVersionWarning } from '../activities/backends/server/ollama-command.js';
import { createStepActivities } from '../activities/step-activities.js';
import { disconnect } from '../db/connect.js';
import { createHostRows } from '../db/host-rows.js';
import { createHost } from '../host/host.js';
import { watchRoom } from '../host/read-memory.js';
import { claimServer } from './claim-server.js';
import { createListenHub } from './listen-hub.js';
import { databaseUrl, openDatabase, openStepParts, openTemporal } from './parts.js';
import { markReady } from './process-file.js';
import { runMain } from './run-main.js';

/** `orchestra host`: one machine with a model server. */
export async function runHost(): Promise<void> {
  await runMain('host', async ({ config, log, stopping }) => {
    const sql = await openDatabase(config, 'host', log, stopping);
    const temporal = await openTemporal(config, log, stopping);
    const parts = await openStepParts(config, sql, log);
    const hub = createListenHub(databaseUrl(config), ['line', 'residency', 'cancel'], log);
    const { id } = config.host;
    const { parallel } = config.models;
    const server = claimServer(parts.models.address, config);
    const host = createHost({
      host: id,
      parallel,
      connection: temporal.connection,
      namespace: config.temporal.namespace,
      models: parts.models,
      running: parts.running,
      stepActivities: (models) => createStepActivities({ ...parts.deps, models, engine: null }),
      rows: createHostRows(sql, { host: id, address: parts.models.address, parallel }),
      listen: hub.listen,
      notOurs: server.notOurs,
      room: watchRoom({ modelsMax: config.models.maxLoaded, budgetBytes: config.models.memoryBudgetBytes }, parts.models.address, config.path),
      versionWarning: ollamaVersionWarning,
      log,
    });
    await host.start();
    await markReady(config.home, 'host', null);
    return {
      ended: host.ended,
      drain: (signal) => host.drain(signal),
      async stop() {
        await host.stop();
        await server.release();
        await hub.close();
        await temporal.close();
        await disconnect(sql);
      },
    };
  });
}
