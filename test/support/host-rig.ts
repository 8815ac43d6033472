import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Client } from '@temporalio/client';
import type { NativeConnection } from '@temporalio/worker';
import type { ModelBackend } from '../../activities/backends/backend.js';
import { createOrderActivities } from '../../activities/residency.js';
import { createRunningSteps } from '../../activities/running.js';
import { orderWorkflowId } from '../../contract/ids.js';
import { residencyKey, type ResidencyKey, workflowQueue } from '../../contract/queues.js';
import type { ResidencyOrder } from '../../contract/residency.js';
import { connect, disconnect, type Sql } from '../../db/connect.js';
import { decideOnce, loseHosts } from '../../db/decide.js';
import { createHostRows } from '../../db/host-rows.js';
import { orderWrites } from '../../db/residency.js';
import { createHost, type Host, type HostDeps } from '../../host/host.js';
import { priorityAffinity } from '../../scheduling/priority-affinity.js';
import { connectClient, connectNative } from '../../temporal/client.js';
import { createWorkflowWorker } from '../../temporal/worker.js';
import { changeResidencyType, orderSignal } from '../../workflows/change-residency.messages.js';
import { listenTo, testLog } from './host-parts.js';
import { installRuntime } from '../../temporal/runtime.js';
import { createTestDatabase, takeNamespace, temporalAddress } from './servers.js';

installRuntime(testLog);

export interface RigHostOptions {
  readonly parallel?: number;
  readonly models: ModelBackend;
  readonly stepActivities?: HostDeps['stepActivities'];
  readonly notOurs?: HostDeps['notOurs'];
  readonly times?: HostDeps['times'];
}

/** Real PostgreSQL and Temporal, the workflow worker, and an engine's decide and outbox loops for residency alone. */
export interface HostRig {
  readonly sql: Sql;
  readonly url: string;
  readonly namespace: string;
  /** id of the host, another one for each rig */
  readonly host: string;
  readonly client: Client;
  readonly native: NativeConnection;
  /** a host in this process; stopped with the rig */
  startHost(options: RigHostOptions): Promise<Host>;
  createHost(options: RigHostOptions): Host;
  /** a task whose one step waits for a model; returns the row's id */
  waitFor(key: ResidencyKey): Promise<string>;
  /** ends the row as a step that ran would */
  endRow(row: string): Promise<void>;
  /** the keys of a host and their states */
  residency(): Promise<Record<string, string>>;
  stop(): Promise<void>;
}

export function keyOf(name: string): ResidencyKey {
  return residencyKey({ name, numCtx: 512 });
}

export async function startHostRig(): Promise<HostRig> {
  const database = await createTestDatabase();
  const namespace = takeNamespace();
  const target = { address: temporalAddress(), namespace };
  const client = await connectClient(target);
  const native = await connectNative(target);
  const cacheDir = await mkdtemp(path.join(tmpdir(), 'bundle-'));
  const sql = connect(database.url, { applicationName: 'host-test' });
  const orderActivities = createOrderActivities({ ...orderWrites(sql), log: testLog });
  const workflows = await createWorkflowWorker({ connection: native, namespace, activities: { ...orderActivities }, log: testLog, cacheDir });
  const ran = workflows.run();
  const host = `desk-${randomUUID().slice(0, 8)}`;
  const hosts: Host[] = [];
  let stopped = false;

  const deliver = async () => {
    const orders = await sql<{ id: string; payload: ResidencyOrder }[]>`select id, payload from outbox where kind = 'residency' order by id`;
    for (const { id, payload } of orders) {
      await client.workflow.signalWithStart(changeResidencyType, {
        workflowId: orderWorkflowId(payload),
        taskQueue: workflowQueue,
        args: [{ host: payload.host }],
        signal: orderSignal,
        signalArgs: [payload],
      });
      await sql`delete from outbox where id = ${id}`;
    }
  };
  const loop = (async () => {
    while (!stopped) {
      await loseHosts(sql);
      await decideOnce(sql, priorityAffinity());
      await deliver();
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  })();

  const rig: HostRig = {
    sql,
    url: database.url,
    namespace,
    host,
    client,
    native,
    createHost({ parallel = 1, models, stepActivities = () => ({ unused: async () => null }), notOurs = async () => null, times = {} }) {
      const created = createHost({
        host,
        parallel,
        connection: native,
        namespace,
        models,
        running: createRunningSteps(),
        stepActivities,
        rows: createHostRows(sql, { host, parallel, address: models.address }),
        listen: listenTo(database.url),
        notOurs,
        log: testLog,
        times,
      });
      hosts.push(created);
      return created;
    },
    async startHost(options) {
      const created = rig.createHost(options);
      await created.start();
      return created;
    },
    async waitFor(key) {
      const plan = { version: 1, template: 'test', templateHash: '', parameters: {}, steps: [] };
      const [task] = await sql<{ id: string }[]>`
        insert into tasks (name, type, user_id, template, template_hash, plan) values ('test', 'test', 'me', 'test', '', ${sql.json(plan)}) returning id`;
      const [row] = await sql<{ id: string }[]>`
        insert into line (task_id, attempt, step, try, step_attempt, run_id, pool, key, level, exact, pos)
        select id, 1, 'only', 1, 1, 'run', 'model', ${key}, priority_level, priority, pos from tasks where id = ${task!.id} returning id`;
      await sql`select pg_notify('line', '')`;
      return row!.id;
    },
    async endRow(row) {
      await sql`update line set state = 'void', cause = 'left', ended_at = now() where id = ${row}`;
      await sql`select pg_notify('line', '')`;
    },
    async residency() {
      const rows = await sql<{ key: string; state: string }[]>`select key, state from residency`;
      return Object.fromEntries(rows.map(({ key, state }) => [key, state]));
    },
    async stop() {
      stopped = true;
      await loop;
      for (const each of hosts) await each.stop();
      workflows.shutdown();
      await ran;
      await native.close();
      await client.connection.close();
      await disconnect(sql);
      await database.drop();
      await rm(cacheDir, { recursive: true });
    },
  };
  return rig;
}
