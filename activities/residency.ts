import { Context } from '@temporalio/activity';
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import type { Logger } from 'pino';
import { failureCodes, StepFailure } from '../contract/failure.js';
import { sameModel } from '../contract/model-name.js';
import { type ModelNeed, needOfKey, type ResidencyKey } from '../contract/queues.js';
import { type DrainState, hostLost, type OrderFailure, type ResidencyOrder } from '../contract/residency.js';
import type { InstalledModel, LoadedModel, ModelBackend, PullProgress } from './backends/backend.js';
import { createSingleFlight } from './single-flight.js';

/** An order as its activities name it. */
export interface OrderRef {
  readonly orderId: string;
  readonly host: string;
  readonly hostEpoch: number;
}

export interface DrainRequest extends OrderRef {
  readonly keys: readonly ResidencyKey[];
  /** the order asks for nothing more, so it ends here */
  readonly last: boolean;
  /** what is to be loaded instead: nothing is unloaded for a model that has to be fetched first */
  readonly needs?: Pick<ModelNeed, 'name'>;
}

export interface LoadRequest extends OrderRef {
  readonly key: ResidencyKey;
  readonly model: ModelNeed;
}

export interface PullRequest extends OrderRef {
  /** whose waiting steps are told how far it is; null: none */
  readonly key: ResidencyKey | null;
  readonly model: Pick<ModelNeed, 'name'>;
  /** the order asks for nothing more, so it ends here */
  readonly last?: boolean;
}

/** Activities on `host:<host>`. Each may be repeated; `stale`: the order is closed or of another epoch, and nothing was done. */
export interface ResidencyActivities {
  /** Waits until no step runs on the keys, and unloads their models; `missing`: what is needed instead has to be fetched first, and nothing was unloaded. */
  drainAndUnload(request: DrainRequest): Promise<'done' | 'missing' | 'stale'>;
  /** Fetches a model that is missing. */
  pullModel(request: PullRequest): Promise<'done' | 'stale'>;
  /** Loads a model and lets it take grants; `missing`: it has to be fetched first. */
  loadAndServe(request: LoadRequest): Promise<'serving' | 'missing' | 'stale'>;
}

/** Local activities of `changeResidency`. */
export interface OrderActivities {
  /** Makes an open order one that fetches its model, apart from what its host changes meanwhile. */
  fetchFirst(order: ResidencyOrder): Promise<void>;
  /** After the fetch: ends the order, or hands what somebody asked to be loaded back to its host; `busy`: the host changes something else. */
  fetched(order: ResidencyOrder): Promise<'done' | 'busy'>;
  /** Closes an order that could not be carried out, and tells those who wait for its model. */
  abandonOrder(order: ResidencyOrder, failure: OrderFailure): Promise<void>;
}

/** The rows behind an order. Every move checks that the order is open and of the host's present epoch, and may be repeated. */
export interface OrderRows {
  isOpen(order: OrderRef): Promise<boolean>;
  /** serving -> draining, so that no new grant is given. Returns the keys that have a row. */
  drain(order: OrderRef, keys: readonly ResidencyKey[]): Promise<readonly ResidencyKey[]>;
  /** How far the key is from being unloaded: whether a step is granted or running on it. */
  drainState(order: OrderRef, key: ResidencyKey): Promise<DrainState>;
  /** Notes a drained key as being unloaded, so that it does not serve again meanwhile. False: stale. */
  beginUnload(order: OrderRef, key: ResidencyKey): Promise<boolean>;
  /** Names of the other models that are served or loaded on the host. */
  keptBeside(order: OrderRef, key: ResidencyKey): Promise<readonly string[]>;
  removeDrained(order: OrderRef, key: ResidencyKey): Promise<void>;
  /** Ends the order as done. */
  end(order: OrderRef): Promise<void>;
  /** Notes the key as loading. False: stale. */
  beginLoad(order: OrderRef, key: ResidencyKey, model: ModelNeed): Promise<boolean>;
  /** In one transaction: loading -> serving, the order done, what it took learned, NOTIFY residency and line. False: stale. */
  serve(order: OrderRef, key: ResidencyKey, loaded: MeasuredLoad): Promise<boolean>;
  /** Notes a model as there, of which size: the next decision knows. */
  noteInstalled(host: string, model: InstalledModel): Promise<void>;
  recordPull(order: OrderRef, key: ResidencyKey, model: string, progress: PullProgress, tellTasks: boolean): Promise<void>;
  endPull(host: string, model: string): Promise<void>;
}

/**
 * A model that was loaded. `loadMs` is the time that the change has cost: from when nothing ran any more on what had to leave for it, else from the begin of the
 * load; without the time of a pull. Absent where the model was in memory before.
 */
export interface MeasuredLoad extends LoadedModel {
  readonly loadMs?: number;
}

/** What a host tells its residency activities. */
export interface ResidencyDeps {
  readonly host: string;
  readonly rows: OrderRows;
  readonly models: ModelBackend;
  /** epoch of the lease that this process holds, with a signal that aborts when it lapses; null without a lease */
  readonly lease: () => { readonly epoch: number; readonly lost: AbortSignal } | null;
  /** Runs one change of the server's memory at a time, with no poll of it meanwhile, and looks at the server after it. */
  readonly exclusively: <Result>(change: () => Promise<Result>) => Promise<Result>;
  readonly onLoaded: (key: ResidencyKey, model: LoadedModel) => void;
  /** Resolves at the next change of the line, after `timeoutMs` at the latest. */
  readonly lineChange: (timeoutMs: number) => Promise<void>;
  readonly log: Logger;
}

/** How long a model stays loaded when its host stops renewing: a dead host pins nothing. */
export const keepAliveMs = 10 * 60_000;

const beatMs = 2_000;
/** How often a draining key is looked at when no NOTIFY comes. */
const drainPollMs = 200;
/** How often the progress of a pull is written. */
const pullWriteMs = 1_000;

export function createResidencyActivities(deps: ResidencyDeps): ResidencyActivities {
  const { host, rows, models, log } = deps;
  const flight = createSingleFlight();
  /** when nothing ran any more on what an order unloads, by order, until its load */
  const idleSince = new Map<string, number>();

  return {
    drainAndUnload: (request) =>
      onOrder(request, async (signal, tell) => {
        if (!(await rows.isOpen(request))) return 'stale';
        if (request.needs !== undefined && (await installed(request.needs.name, signal)) === undefined) return 'missing';
        let idleAtMs = performance.now();
        for (const key of await rows.drain(request, request.keys)) {
          tell({ phase: 'draining', key });
          let state = await rows.drainState(request, key);
          for (; state === 'busy'; state = await rows.drainState(request, key)) {
            signal.throwIfAborted();
            await deps.lineChange(drainPollMs);
            idleAtMs = performance.now();
          }
          // Another order goes on with it, or it serves again.
          if (state === 'stale' || !(await rows.beginUnload(request, key))) return 'stale';
          tell({ phase: 'unloading', key });
          const sharer = await deps.exclusively(() => unloadUnlessShared(request, key, signal));
          await rows.removeDrained(request, key);
          if (sharer === null) log.info({ host, key, order: request.orderId }, 'model unloaded');
          else log.info({ host, key, order: request.orderId, sharer }, 'model is served no more, and stays in memory for another that shares it');
        }
        idleSince.clear(); // a host carries out one order at a time
        if (request.last) await rows.end(request);
        else idleSince.set(request.orderId, idleAtMs);
        return 'done';
      }),

    pullModel: (request) =>
      onOrder(request, async (signal, tell) => {
        if (!(await rows.isOpen(request))) return 'stale';
        const { name } = request.model;
        await flight(name, signal, (shared) => pull(request, shared, tell));
        const there = await installed(name, signal);
        if (there === undefined) throw new StepFailure(failureCodes.modelPullFailed, `${name} is not there after its pull`, { retryable: true });
        await rows.noteInstalled(host, { ...there, name });
        log.info({ host, model: name, order: request.orderId }, 'model pulled');
        if (request.last) await rows.end(request);
        return 'done';
      }),

    loadAndServe: (request) =>
      onOrder(request, async (signal, tell) => {
        if ((await installed(request.model.name, signal)) === undefined) {
          idleSince.delete(request.orderId); // a fetch is paid once, not with each change
          return (await rows.isOpen(request)) ? 'missing' : 'stale';
        }
        if (!(await rows.beginLoad(request, request.key, request.model))) return 'stale';
        tell({ phase: 'loading', key: request.key });
        const loaded = await deps.exclusively(() => measuredLoad(request.model, signal, idleSince.get(request.orderId)));
        deps.onLoaded(request.key, loaded);
        const serving = await rows.serve(request, request.key, loaded);
        log.info(
          { host, key: request.key, order: request.orderId, load_ms: loaded.loadMs === undefined ? 0 : Math.round(loaded.loadMs), serving },
          'model loaded',
        );
        return serving ? 'serving' : 'stale';
      }),
  };

  async function installed(name: string, signal: AbortSignal): Promise<InstalledModel | undefined> {
    return (await models.installed(signal)).find((model) => sameModel(model.name, name));
  }

  /**
   * What another model is answered from stays: the server would unload it between two steps of that one, or, while it is at work without a pause, not at all.
   * @returns for which model it stays, one that is served or is to be loaded instead; null: it was unloaded
   */
  async function unloadUnlessShared(request: DrainRequest, key: ResidencyKey, signal: AbortSignal): Promise<string | null> {
    const name = modelOf(key);
    const loaded = await models.loaded(signal);
    const kept = [...(await rows.keptBeside(request, key)), ...(request.needs === undefined ? [] : [request.needs.name])];
    const runner = loaded.find((model) => sameModel(model.name, name))?.runner;
    const sharer = kept.find((other) => loaded.some((model) => model.runner === runner && sameModel(model.name, other)));
    if (sharer !== undefined) return sharer;
    await models.unload(name, signal);
    return null;
  }

  /** Beats while the work runs, ends it when the lease or the activity does, and says failures in Temporal's terms. */
  async function onOrder<Result>(order: OrderRef, work: (signal: AbortSignal, tell: (details: object) => void) => Promise<Result>): Promise<Result> {
    const lease = deps.lease();
    if (lease?.epoch !== order.hostEpoch || order.host !== host) throw lost('the host started anew after this order was given');
    const context = Context.current();
    const signal = AbortSignal.any([context.cancellationSignal, lease.lost]);
    let details: object = {};
    const beats = setInterval(() => context.heartbeat(details), beatMs);
    try {
      return await work(signal, (now) => {
        details = now;
        context.heartbeat(details);
      });
    } catch (error) {
      if (lease.lost.aborted) throw lost('the host lost its lease');
      if (context.cancellationSignal.aborted) throw error instanceof CancelledFailure ? error : new CancelledFailure('the change was cancelled');
      if (!(error instanceof StepFailure)) throw error; // PostgreSQL away, or a bug: logged and repeated by Temporal
      // Not repeated by Temporal: the order fails, and the next decision orders anew.
      throw ApplicationFailure.create({ type: error.code, message: error.message, nonRetryable: true, details: [{ retryable: error.retryable }] });
    } finally {
      clearInterval(beats);
    }
  }

  /** @param idleAtMs when nothing ran any more on what had to leave; default: the moment at which nothing else changes the server's memory */
  async function measuredLoad(model: ModelNeed, signal: AbortSignal, idleAtMs?: number): Promise<MeasuredLoad> {
    const before = await models.loaded(signal);
    const startedAtMs = idleAtMs ?? performance.now();
    const loaded = await models.load(model, keepAliveMs, signal);
    const loadMs = performance.now() - startedAtMs;
    const wasThere = before.some(({ runner, contextLength }) => runner === loaded.runner && contextLength === loaded.contextLength);
    return wasThere ? loaded : { ...loaded, loadMs };
  }

  async function pull(request: PullRequest, signal: AbortSignal, tell: (details: object) => void): Promise<void> {
    const { name } = request.model;
    let writing: Promise<void> = Promise.resolve();
    let written = { atMs: -Infinity, tenth: -1 };
    const onProgress = (progress: PullProgress) => {
      tell({ phase: 'pulling', ...progress });
      const tenth = progress.totalBytes > 0 ? Math.floor((10 * progress.completedBytes) / progress.totalBytes) : 0;
      const tellTasks = tenth > written.tenth;
      if (!tellTasks && performance.now() - written.atMs < pullWriteMs) return;
      written = { atMs: performance.now(), tenth: Math.max(tenth, written.tenth) };
      writing = writing
        .then(() => rows.recordPull(request, request.key ?? '', name, progress, tellTasks))
        // Progress is for people; a pull goes on without it.
        .catch((error: unknown) => log.warn({ err: error, model: name }, 'the progress of a pull could not be written'));
    };
    try {
      await models.pull(name, signal, onProgress);
    } finally {
      await writing;
      await rows.endPull(host, name).catch((error: unknown) => log.warn({ err: error, model: name }, 'the end of a pull could not be written'));
    }
  }
}

/** @param deps.abandon closes the order in one transaction; like the others it has no effect on an order that is closed */
export function createOrderActivities(deps: {
  readonly fetchFirst: (order: ResidencyOrder) => Promise<void>;
  readonly fetched: (order: ResidencyOrder) => Promise<'done' | 'busy'>;
  readonly abandon: (order: ResidencyOrder, failure: OrderFailure) => Promise<void>;
  readonly log: Logger;
}): OrderActivities {
  return {
    async fetchFirst(order) {
      deps.log.info({ host: order.host, order: order.id, model: order.load?.model.name }, 'a model is fetched before anything is unloaded for it');
      await deps.fetchFirst(order);
    },
    fetched: (order) => deps.fetched(order),
    async abandonOrder(order, failure) {
      deps.log.warn({ host: order.host, order: order.id, load: order.load?.key ?? null, ...failure }, 'a change of models failed');
      await deps.abandon(order, failure);
    },
  };
}

function lost(message: string): ApplicationFailure {
  return ApplicationFailure.create({ type: hostLost, message, nonRetryable: true, details: [{ retryable: true }] });
}

function modelOf(key: ResidencyKey): string {
  const need = needOfKey(key);
  if (!need) throw new StepFailure(failureCodes.invalidInput, `"${key}" is no residency key`, { retryable: false });
  return need.name;
}
