import { ollamaVersionWarning } from '../activities/backends/server/ollama-command.js';
import { createStepActivities } from '../activities/step-activities.js';
import { disconnect } from '../db/connect.js';
import { createHostRows } from '../db/host-rows.js';
import { endedAttempts } from '../db/reconcile.js';
import { createHost } from '../host/host.js';
import { watchRoom } from '../host/read-memory.js';
import { readMachineFacts, serverIdentity } from '../host/server-identity.js';
import { startLoop } from '../loop.js';
import { claimServer } from './claim-server.js';
import { createListenHub } from './listen-hub.js';
import { besideLocal } from './local-database.js';
import { databaseUrl, openDatabase, openStepParts, openTemporal } from './parts.js';
import { markReady } from './process-file.js';
import { runMain } from './run-main.js';
import { startSampling } from './sample-machine.js';

/** How often workspaces of ended attempts are looked for: model steps make some here too, and no engine sweeps a machine without one. */
const sweepEveryMs = 5 * 60_000;

/** `orchestra host`: one machine with a model server. */
export async function runHost(): Promise<void> {
  await runMain('host', async ({ config: given, log, stopping }) => {
    const config = await besideLocal(given);
    const sql = await openDatabase(config, 'host', log, stopping);
    const temporal = await openTemporal(config, log, stopping);
    const parts = await openStepParts(config, sql, log);
    const hub = createListenHub(databaseUrl(config), ['line', 'residency', 'cancel'], log);
    const { id } = config.host;
    const { parallel } = config.models;
    const { address } = parts.models;
    const claim = claimServer(address, config);
    const host = createHost({
      host: id,
      parallel,
      connection: temporal.connection,
      namespace: config.temporal.namespace,
      models: parts.models,
      running: parts.running,
      stepActivities: (models) => createStepActivities({ ...parts.deps, models, engine: null }),
      rows: createHostRows(sql, { host: id, address, server: await serverIdentity(address, await readMachineFacts()), parallel }),
      listen: hub.listen,
      notOurs: claim.notOurs,
      room: watchRoom({ modelsMax: config.models.maxLoaded, budgetBytes: config.models.memoryBudgetBytes }, address, config.path),
      versionWarning: ollamaVersionWarning,
      log,
    });
    await host.start();
    const sweep = startLoop({
      name: 'workspaces',
      everyMs: sweepEveryMs,
      run: async () => {
        await parts.workspaces.sweep((found) => endedAttempts(sql, found));
        return undefined;
      },
      log,
    });
    const sampling = startSampling(sql, id, config.path, log);
    if (config.underUp) await markReady(config.home, 'host', null);
    return {
      ended: host.ended,
      drain: (signal) => host.drain(signal),
      async stop() {
        await sweep.stop();
        await sampling.stop();
        await host.stop();
        await claim.release();
        await hub.close();
        await temporal.close();
        await disconnect(sql);
      },
    };
  });
}
