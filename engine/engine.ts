import type { Client } from '@temporalio/client';
import type { NativeConnection, Worker } from '@temporalio/worker';
import type { Logger } from 'pino';
import type { RunningSteps } from '../activities/running.js';
import type { Workspaces } from '../activities/workspace.js';
import type { Meter } from '../contract/metrics.js';
import { generalQueue } from '../contract/queues.js';
import type { Sql } from '../db/connect.js';
import { registerEngine, releaseEngine, renewEngine } from '../db/leases.js';
import { type Loop, startLoop } from '../loop.js';
import type { PriorityAgent } from '../scheduling/learned-order.js';
import { priorityAffinity } from '../scheduling/priority-affinity.js';
import { createActivityWorker, createWorkflowWorker } from '../temporal/worker.js';
import { askAgent } from './ask-agent.js';
import { type CollectSettings, createCollector } from './collect.js';
import { createDeadlockWatch } from './deadlocks.js';
import { createDecider } from './decide.js';
import { createForecaster, forecastEveryMs } from './forecast.js';
import { createResourceTeller, type MachineResources } from './resources.js';
import { createOutboxDelivery } from './outbox.js';
import { createPruner } from './prune.js';
import { createReconciler } from './reconcile.js';

const leaseEveryMs = 3_000;
const decideEveryMs = 1_000;
const outboxEveryMs = 1_000;
const reconcileEveryMs = 15_000;
const deadlocksEveryMs = 2_000;
const resourcesEveryMs = 10_000;
const pruneEveryMs = 24 * 60 * 60_000;
/** how often an engine looks whether the next interval of the collection has begun */
const collectLookMs = 5_000;

/** Workflow worker, `general` activities, and the loops that apply decisions. There may be many; any of them decides. */
export interface Engine {
  /** Takes a lease and begins. */
  start(): Promise<void>;
  /** Takes no new steps; resolves when none runs here, or when `signal` aborts. */
  drain(signal: AbortSignal): Promise<void>;
  /** Gives running steps back to the line and ends everything. */
  stop(): Promise<void>;
  /** Rejects when a worker died, which nothing in this process can mend; resolves when it was stopped. */
  readonly ended: Promise<void>;
}

/** Calls back for each NOTIFY on a channel, and with '' when the connection was made anew, since calls may have been missed. */
export type Listen = (channel: 'line' | 'outbox' | 'cancel', onNotify: (payload: string) => void) => Promise<{ stop(): Promise<void> }>;

export interface EngineDeps {
  readonly id: string;
  /** steps without a model that run here at once */
  readonly slots: number;
  readonly sql: Sql;
  /** what it says of itself: `sandbox` is the level of the fence around scripts, or `refused` */
  readonly info?: { readonly sandbox: string };
  readonly listen: Listen;
  readonly client: Client;
  readonly connection: NativeConnection;
  readonly namespace: string;
  /** the server's `matching.priorityLevels` */
  readonly priorityLevels: number;
  /** directory for the workflow bundle */
  readonly cacheDir: string;
  /** local activities of the workflows: the moves of the line and the end of residency orders */
  readonly localActivities: object;
  /** the steps, by type */
  readonly stepActivities: object;
  readonly running: RunningSteps;
  readonly workspaces: Workspaces;
  /** what it tells of its machine, and the configured pools; left out: nothing */
  readonly resources?: MachineResources;
  /** what is configured to order the line; default `priority_affinity` */
  readonly algorithm?: 'reinforcement_learning' | 'priority_affinity';
  /** what `reinforcement_learning` asks; left out: there is none, and `priority_affinity` decides */
  readonly agent?: PriorityAgent;
  readonly meter?: Meter;
  /** how long decisions are kept; left out: for ever */
  readonly decisionsDays?: number;
  /** how it collects how the whole is doing; left out: it does not */
  readonly collect?: CollectSettings;
  /** what a running step gets to end when the engine stops; default 10 s */
  readonly graceMs?: number;
  readonly log: Logger;
}

export function createEngine(deps: EngineDeps): Engine {
  const { id, slots, info = {}, sql, client, running, log } = deps;
  const graceMs = deps.graceMs ?? 10_000;
  const agent = deps.algorithm === 'reinforcement_learning' ? deps.agent : undefined;
  const policy = agent === undefined ? priorityAffinity() : askAgent({ agent, policy: priorityAffinity(), log });
  const loops: Loop[] = [];
  const listening: { stop(): Promise<void> }[] = [];
  let workflows: Worker | undefined;
  let steps: Worker | undefined;
  let runs: Promise<unknown> = Promise.resolve();
  let draining = false;
  let end: { resolve(): void; reject(error: unknown): void } = { resolve() {}, reject() {} };
  const ended = new Promise<void>((resolve, reject) => {
    end = { resolve, reject };
  });
  ended.catch(() => {}); // whoever owns the engine listens; without one, a dead worker must not end the process by itself

  async function keepLease(): Promise<undefined> {
    if (await renewEngine(sql, id)) return;
    // Somebody took this engine for dead and gave its slots away: what runs here has no right to go on.
    log.error({ engine: id, steps: running.size }, 'the lease of this engine lapsed');
    running.abortAll('lease_lost');
    await registerEngine(sql, { id, slots: draining ? 0 : slots, info });
  }

  return {
    ended,

    async start() {
      await registerEngine(sql, { id, slots, info });
      loops.push(startLoop({ name: 'lease', everyMs: leaseEveryMs, run: keepLease, log }));
      workflows = await createWorkflowWorker({
        connection: deps.connection,
        namespace: deps.namespace,
        activities: deps.localActivities,
        cacheDir: deps.cacheDir,
        log,
      });
      steps = await createActivityWorker({
        connection: deps.connection,
        namespace: deps.namespace,
        taskQueue: generalQueue,
        activities: deps.stepActivities,
        slots,
        graceMs,
      });
      runs = Promise.all([workflows.run(), steps.run()]).catch((error: unknown) => {
        log.fatal({ err: error }, 'a worker of the engine died');
        end.reject(error);
      });

      const outbox = startLoop({ name: 'outbox', everyMs: outboxEveryMs, run: createOutboxDelivery(deps), log });
      const decide = startLoop({
        name: 'decide',
        everyMs: decideEveryMs,
        run: createDecider({ sql, client, policy, onOrders: outbox.wake, ...(deps.meter === undefined ? {} : { meter: deps.meter }), log }),
        log,
      });
      const reconcile = startLoop({ name: 'reconcile', everyMs: reconcileEveryMs, run: createReconciler({ ...deps, onOutbox: outbox.wake }), log });
      const deadlocks = startLoop({ name: 'deadlocks', everyMs: deadlocksEveryMs, run: createDeadlockWatch({ sql, log }), log });
      loops.push(outbox, decide, reconcile, deadlocks);
      if (deps.resources)
        loops.push(startLoop({ name: 'resources', everyMs: resourcesEveryMs, run: createResourceTeller({ sql, resources: deps.resources }), log }));
      if (deps.decisionsDays !== undefined)
        loops.push(startLoop({ name: 'prune', everyMs: pruneEveryMs, run: createPruner({ sql, decisionsDays: deps.decisionsDays, log }), log }));
      const forecaster = createForecaster({ sql, ...(deps.meter === undefined ? {} : { meter: deps.meter }), log });
      const forecast = startLoop({ name: 'forecast', everyMs: forecastEveryMs, run: forecaster.run, log });
      loops.push(forecast);
      if (deps.collect)
        loops.push(
          startLoop({
            name: 'collect',
            everyMs: Math.min(deps.collect.intervalMs, collectLookMs),
            run: createCollector({ sql, settings: deps.collect, log }),
            log,
          }),
        );
      listening.push(
        await deps.listen('line', () => {
          decide.wake();
          forecaster.changed();
        }),
        await deps.listen('outbox', () => outbox.wake()),
        await deps.listen('cancel', (payload) => running.told(payload)),
      );
      log.info({ engine: id, slots, algorithm: agent === undefined ? 'priority_affinity' : 'reinforcement_learning' }, 'engine started');
      if (deps.algorithm === 'reinforcement_learning' && agent === undefined)
        log.info({ engine: id }, 'reinforcement_learning is configured and there is no trained agent: priority_affinity orders the line');
    },

    async drain(signal) {
      draining = true;
      await registerEngine(sql, { id, slots: 0, info }); // no grant counts on this engine any more
      while (running.size > 0 && !signal.aborted) await new Promise((resolve) => setTimeout(resolve, 50));
    },

    async stop() {
      running.abortAll('shutdown');
      for (const listener of listening.splice(0)) await listener.stop();
      // The steps' ends are moves of workflows, so their worker goes first.
      shutdown(steps);
      while (running.size > 0) await new Promise((resolve) => setTimeout(resolve, 20));
      shutdown(workflows);
      await runs;
      for (const loop of loops.splice(0)) await loop.stop();
      await releaseEngine(sql, id).catch((error: unknown) => log.warn({ err: error }, 'the lease could not be given back; it lapses by itself'));
      end.resolve();
      log.info({ engine: id }, 'engine stopped');
    },
  };
}

/** A worker that died or was never started cannot be shut down again. */
function shutdown(worker: Worker | undefined): void {
  if (worker?.getState() === 'RUNNING') worker.shutdown();
}
