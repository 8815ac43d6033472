import { createRunningSteps } from '../../../activities/running.js';
import { connect } from '../../../db/connect.js';
import { createHostRows } from '../../../db/host-rows.js';
import { createHost } from '../../../host/host.js';
import { connectNative } from '../../../temporal/client.js';
import { backendOf, listenTo, testLog } from '../../support/host-parts.js';

// A host as a process of its own, which kills itself at the moment between an unload and the load that follows.
const {
  host: id,
  database,
  address,
  namespace,
  ollama,
} = JSON.parse(process.argv[2] ?? '{}') as Record<'host' | 'database' | 'address' | 'namespace' | 'ollama', string>;
const models = backendOf(ollama);
const rows = createHostRows(connect(database, { applicationName: 'host-process' }), { host: id, parallel: 1, address: models.address });

const host = createHost({
  host: id,
  parallel: 1,
  connection: await connectNative({ address, namespace }),
  namespace,
  models,
  running: createRunningSteps(),
  stepActivities: () => ({ unused: async () => null }),
  rows: {
    ...rows,
    async removeDrained(order, key) {
      await rows.removeDrained(order, key);
      process.kill(process.pid, 'SIGKILL');
    },
  },
  listen: listenTo(database),
  log: testLog,
});
await host.start();
