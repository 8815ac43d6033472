import { setTimeout as delay } from 'node:timers/promises';
import type { NativeConnection } from '@temporalio/worker';
import type { Logger } from 'pino';
import type { LoadedModel, ModelBackend } from '../activities/backends/backend.js';
import { waitWhileBusy } from '../activities/backends/while-busy.js';
import { createResidencyActivities, type OrderRows } from '../activities/residency.js';
import type { AbortReason, RunningSteps } from '../activities/running.js';
import { hostQueue, modelQueue, type ResidencyKey } from '../contract/queues.js';
import { createActivityWorker } from '../temporal/worker.js';
import { type HostRoom, type HostTaken, oneModel } from '../db/leases.js';
import { type Loop, startLoop } from '../loop.js';
import { type HostLease, keepLease, type LeaseKeeper, type LeaseRows, type LeaseTimes, leaseTimes } from './lease-keeper.js';
import { createOneAtATime } from './one-at-a-time.js';
import { planWorkers } from './plan-workers.js';
import { type ServerWatch, watchServer, type WatchRows, type WatchTimes, watchTimes } from './server-watch.js';
import { watchBackend } from './watched-backend.js';
import { createWorkerSet } from './worker-set.js';

/** One machine with a model server: obeys the residency rows, serves the queues of what is resident. */
export interface Host {
  /**
   * Takes the host's lease and begins; waits up to the length of a lease for one that a dead process left.
   * @throws HostTaken when a living process is this host already, or a living host manages its model server
   */
  start(): Promise<void>;
  /** Takes no new work; resolves when no step runs here, or when `signal` aborts. */
  drain(signal: AbortSignal): Promise<void>;
  /** Gives running steps back to the line, ends every Worker and the lease. */
  stop(): Promise<void>;
  /** Rejects with HostTaken when another process has become this host, or another host turns out to manage its model server; resolves when it was stopped. */
  readonly ended: Promise<void>;
}

/** Calls back for each NOTIFY on a channel; `onNotify` also runs with '' when the connection was made anew, since calls may have been missed. */
export type Listen = (channel: 'line' | 'residency' | 'cancel', onNotify: (payload: string) => void) => Promise<{ stop(): Promise<void> }>;

export interface HostDeps {
  readonly host: string;
  /** concurrent inferences of one resident key */
  readonly parallel: number;
  readonly connection: NativeConnection;
  readonly namespace: string;
  readonly models: ModelBackend;
  readonly running: RunningSteps;
  /** the activities of the model queues, made with the backend they are to use */
  readonly stepActivities: (models: ModelBackend) => object;
  readonly rows: LeaseRows & WatchRows & OrderRows;
  readonly listen: Listen;
  /** why the model server is not ours to use (another installation uses it); null: it is. Asked again before each look at the server. Left out: nobody else uses it */
  readonly notOurs?: () => Promise<string | null>;
  /** what the server may hold at the same time; left out: one model, whatever its size */
  readonly room?: (loaded: readonly LoadedModel[], ours: ReadonlySet<string>) => Promise<HostRoom>;
  /** what a person should know of this version of the server; null: nothing. Left out: nothing ever */
  readonly versionWarning?: (version: string) => string | null;
  readonly log: Logger;
  readonly times?: Partial<LeaseTimes & WatchTimes & HostTimes>;
}

export interface HostTimes {
  /** the longest time a Worker differs from its row when a NOTIFY is lost */
  readonly syncEveryMs: number;
  /** what a running step gets after its Worker was stopped; on `stop` it is aborted at once */
  readonly graceMs: number;
}

export const hostTimes: HostTimes = { syncEveryMs: 2_000, graceMs: 60_000 };

/** Orders come one at a time; a second slot lets an order of a new epoch pass one that still ends. */
const orderSlots = 2;

const stoppingReason = 'the host is being stopped';

export function createHost(deps: HostDeps): Host {
  const { host, rows, running, log } = deps;
  const times = { ...leaseTimes, ...watchTimes, ...hostTimes, ...deps.times };
  const changes = createOneAtATime();
  const stopping = new AbortController();
  const lineWaiters = new Set<() => void>();
  const listening: { stop(): Promise<void> }[] = [];
  let keeper: LeaseKeeper | null = null;
  let held: HostLease | null = null;
  let watch: ServerWatch | null = null;
  let sync: Loop | null = null;
  let draining = false;
  let onEnd: { resolve: () => void; reject: (error: HostTaken) => void } = { resolve: () => {}, reject: () => {} };
  const ended = new Promise<void>((resolve, reject) => {
    onEnd = { resolve, reject };
  });
  ended.catch(() => undefined); // whoever does not ask is not killed by it

  const patient = waitWhileBusy(deps.models, log);
  const models = watchBackend(patient, {
    onUse: (model) => watch?.used(model),
    onUnavailable: async (message) => {
      await watch?.unavailable(message).catch((error: unknown) => log.warn({ err: error, host }, 'the host could not be marked as not ready'));
    },
  });
  const stepActivities = deps.stepActivities(models);
  const residencyActivities = createResidencyActivities({
    host,
    rows,
    models: patient,
    lease: () => held && { epoch: held.epoch, lost: AbortSignal.any([held.lost, stopping.signal]) },
    exclusively: (change) =>
      changes.run(change).finally(() => {
        watch?.wake();
      }),
    onLoaded: (key, model) => watch?.loaded(key, model),
    lineChange,
    log,
  });

  const worker = (taskQueue: string, activities: object, slots: number) =>
    createActivityWorker({ connection: deps.connection, namespace: deps.namespace, taskQueue, activities, slots, graceMs: times.graceMs });
  const modelWorkers = createWorkerSet<ResidencyKey>(
    (key) => worker(modelQueue(host, key), stepActivities, deps.parallel),
    () => sync?.wake(),
    log,
  );
  const hostWorker = createWorkerSet<'host'>(
    () => worker(hostQueue(host), { ...residencyActivities }, orderSlots),
    () => sync?.wake(),
    log,
  );

  return {
    async start() {
      keeper = await keepLease({
        host,
        rows,
        times,
        onAcquired: async (lease) => {
          held = lease;
          await hostWorker.start('host');
          sync?.wake();
          watch?.wake();
        },
        onLost: async () => {
          held = null;
          await endWork('lease_lost');
        },
        onTaken: (error) => onEnd.reject(error),
        log,
      });
      sync = startLoop({ name: 'workers of this host', everyMs: times.syncEveryMs, run: syncWorkers, log });
      watch = watchServer({
        host,
        models: deps.models,
        rows,
        lease: () => held,
        changes,
        times,
        versionWarning: deps.versionWarning ?? (() => null),
        notOurs: deps.notOurs ?? (async () => null),
        room: deps.room ?? (async () => oneModel),
        onTaken: (error) => onEnd.reject(error),
        closed: () => (draining ? stoppingReason : null),
        log,
      });
      const { listen } = deps;
      listening.push(
        await listen('residency', (of) => {
          if (of === host || of === '') sync?.wake();
        }),
        await listen('line', () => {
          for (const wake of [...lineWaiters]) wake();
        }),
        await listen('cancel', (payload) => running.told(payload)),
      );
    },

    async drain(signal) {
      draining = true;
      await watch?.unavailable(stoppingReason);
      while (running.size > 0 && !signal.aborted) await lineChange(200);
    },

    async stop() {
      draining = true;
      stopping.abort();
      await Promise.all(listening.map((each) => each.stop()));
      await Promise.all([sync?.stop(), watch?.stop()]);
      await endWork('shutdown');
      await keeper?.stop();
      // A lease that was taken meanwhile has started it again.
      await hostWorker.stopAll();
      onEnd.resolve();
    },

    ended,
  };

  /** Stops the Workers and aborts what runs. Again and again, since a step may be about to note itself as running. */
  async function endWork(reason: AbortReason): Promise<void> {
    let over = false;
    const ends = Promise.all([modelWorkers.stopAll(), hostWorker.stopAll()]).finally(() => {
      over = true;
    });
    while (!over) {
      running.abortAll(reason);
      await Promise.race([ends, delay(100)]);
    }
    await ends;
  }

  async function syncWorkers(): Promise<undefined> {
    const lease = held;
    if (!lease) return;
    await hostWorker.start('host');
    const change = planWorkers(await rows.residency(lease.epoch), lease.epoch, modelWorkers.keys);
    if (lease.lost.aborted) return;
    for (const key of change.stop) void modelWorkers.stop(key);
    for (const key of change.start) await modelWorkers.start(key);
    if (change.start.length + change.stop.length > 0) log.info({ host, start: change.start, stop: change.stop }, 'the workers follow the residency');
  }

  function lineChange(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        lineWaiters.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, timeoutMs);
      lineWaiters.add(wake);
    });
  }
}
