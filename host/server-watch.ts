import type { Logger } from 'pino';
import type { LoadedModel, ModelBackend } from '../activities/backends/backend.js';
import { keepAliveMs } from '../activities/residency.js';
import { type HostHolder, type HostRoom, type HostTaken, leaseMs, oneModel } from '../db/leases.js';
import type { SeenModels } from '../db/models.js';
import { failureCodes, StepFailure } from '../contract/failure.js';
import type { JsonObject } from '../contract/json.js';
import type { ResidencyKey } from '../contract/queues.js';
import type { ResidencyRow } from '../contract/residency.js';
import { type Loop, startLoop } from '../loop.js';
import { sameModel } from '../contract/model-name.js';
import { judgePoll, type LoadMemory, type PollLimits } from './judge-poll.js';
import { type HostLease, takenBy } from './lease-keeper.js';
import type { OneAtATime } from './one-at-a-time.js';

/** Rows that the watch of a model server reads and writes; each write has no effect under another epoch. */
export interface WatchRows {
  residency(epoch: number): Promise<readonly ResidencyRow[]>;
  /** Names of models that this host has held within so many milliseconds, under whatever epoch. */
  heldBefore(withinMs: number): Promise<readonly string[]>;
  /** Whether the host takes grants, what it says of itself, and what it may hold. NOTIFY line when it is ready. */
  setReady(epoch: number, ready: boolean, info: JsonObject, room: HostRoom): Promise<void>;
  /** Removes a key that is no longer served; NOTIFY residency and line. */
  forget(epoch: number, key: ResidencyKey): Promise<void>;
  seen(models: SeenModels): Promise<void>;
  /** Another host that manages the same server, by the marks of what it holds; null: none. */
  ofSameServer(epoch: number, marks: readonly string[]): Promise<Omit<HostHolder, 'lease'> | null>;
  allUnloaded(): Promise<void>;
}

export interface WatchTimes extends PollLimits {
  readonly pollEveryMs: number;
  /** between two polls, whoever asks for them */
  readonly pollPauseMs: number;
  /** between two tries to reach a server that is away */
  readonly retryEveryMs: number;
}

export const watchTimes: WatchTimes = { pollEveryMs: 5_000, pollPauseMs: 2_000, retryEveryMs: 1_000, keepAliveEveryMs: 240_000, settleMs: 30_000 };

/** After this a server that kept too few models gets another chance. */
const keptBelievedMs = 30 * 60_000;

export interface ServerWatchDeps {
  readonly host: string;
  readonly models: ModelBackend;
  readonly rows: WatchRows;
  readonly lease: () => HostLease | null;
  /** shared with the residency activities: no poll while a model is loaded or unloaded */
  readonly changes: OneAtATime;
  readonly times: WatchTimes;
  /** what a person should know of this version of the server; null: nothing */
  readonly versionWarning: (version: string) => string | null;
  /** why the server may not be touched, null: it may */
  readonly notOurs: () => Promise<string | null>;
  /** what the server may hold at the same time, beside what others use; `ours`: names of the models that the engine wants there */
  readonly room: (loaded: readonly LoadedModel[], ours: ReadonlySet<string>) => Promise<HostRoom>;
  /** called when another host turns out to manage the same server, under another address; this one has to end */
  readonly onTaken: (error: HostTaken) => void;
  /** why this host takes no grants although its server answers; null: it takes them */
  readonly closed: () => string | null;
  readonly log: Logger;
}

export interface ServerWatch {
  /** Looks at the server soon. */
  wake(): void;
  /** The server did not answer somebody: no grants until it answers again. */
  unavailable(message: string): Promise<void>;
  /** A step runs on the model, or did until now. */
  used(model: string): void;
  /** A key was loaded by an order just now. */
  loaded(key: ResidencyKey, model: LoadedModel): void;
  stop(): Promise<void>;
}

/** Keeps the tables true to the model server, and the server true to the `serving` rows. */
export function watchServer(deps: ServerWatchDeps): ServerWatch {
  const { host, models, rows, lease, changes, times, log } = deps;
  const stopping = new AbortController();
  const memory = new Map<ResidencyKey, LoadMemory>();
  const usedAtMs = new Map<string, number>();
  let polledAtMs = -Infinity;
  /** what was last written of readiness, and under which epoch */
  let told: { readonly epoch: number; readonly said: string; readonly text: string } | null = null;
  let room = oneModel;
  /** the epoch in which it was written that the server holds nothing; null: what it holds was written since */
  let emptyIn: number | null = null;
  /** when a model was loaded last, for whatever reason */
  let lastLoadAtMs = -Infinity;
  /** since when another host is seen to manage the same server */
  let sharedSinceMs: number | null = null;
  /** what an earlier epoch of this host has left in the server's memory: nobody else's, so that it takes no room from what is wanted now */
  let left: { readonly epoch: number; readonly names: ReadonlySet<string> } | null = null;
  /** models that the server keeps at the same time, as it showed, and until when that is believed */
  let kept = { max: Infinity, untilMs: -Infinity };

  const loop: Loop = startLoop({
    name: 'watch of the model server',
    everyMs: times.retryEveryMs,
    log,
    async run() {
      const held = lease();
      if (!held) return undefined;
      const earlyMs = times.pollPauseMs - (performance.now() - polledAtMs);
      if (earlyMs > 0 && told?.epoch === held.epoch) return { againInMs: earlyMs };
      // A change looks at the server itself, and wakes this loop when it has ended.
      if (changes.busy) return { againInMs: times.pollEveryMs };
      const answers = await changes.run(() => look(held));
      return answers ? { againInMs: times.pollEveryMs } : undefined;
    },
  });

  return {
    wake: () => loop.wake(),
    async unavailable(message) {
      const held = lease();
      if (held) await tell(held, false, { why: message });
      polledAtMs = -Infinity;
      loop.wake();
    },
    used: (model) => void usedAtMs.set(model, Date.now()),
    loaded: (key, model) => remember(key, model, null),
    async stop() {
      stopping.abort();
      await loop.stop();
    },
  };

  /** @returns whether the server answers */
  async function look(held: HostLease): Promise<boolean> {
    const foreign = await deps.notOurs();
    if (foreign !== null) {
      await tell(held, false, { why: foreign });
      await nothingLoaded(held); // what it holds is not for us
      return false;
    }
    const signal = AbortSignal.any([held.lost, stopping.signal]);
    const wanted = await rows.residency(held.epoch);
    const serving = wanted.filter(({ state }) => state === 'serving');
    try {
      const version = await models.version(signal);
      const loaded = await models.loaded(signal);
      polledAtMs = performance.now();
      const other = await rows.ofSameServer(held.epoch, [...new Set(loaded.flatMap(({ mark }) => mark ?? []))]);
      if (other !== null) {
        const taken = takenBy(other, host);
        await tell(held, false, { why: taken.message });
        sharedSinceMs ??= performance.now();
        // One that has died goes on to be seen for as long as its lease lasts.
        if (performance.now() - sharedSinceMs > leaseMs) deps.onTaken(taken);
        return false;
      }
      sharedSinceMs = null;
      const installed = await models.installed(signal);
      emptyIn = null;
      await rows.seen({ installed, loaded, usedAtMs });
      for (const key of memory.keys()) if (!wanted.some((row) => row.key === key)) memory.delete(key);
      const ours = new Set(wanted.map(({ model }) => model.name));
      learnKept(wanted, loaded, ours);
      await put(held, serving, loaded, signal);
      if (left?.epoch !== held.epoch) left = { epoch: held.epoch, names: new Set(await rows.heldBefore(keepAliveMs)) };
      const measured = await deps.room(loaded, new Set([...ours, ...left.names]));
      room = { ...measured, modelsMax: Math.max(1, Math.min(measured.modelsMax, keptMax())) };
      const why = deps.closed();
      const warning = deps.versionWarning(version);
      await tell(held, why === null, { version, ...(warning === null ? {} : { warning }), ...(why === null ? {} : { why }) });
      return true;
    } catch (error) {
      if (signal.aborted) return false;
      if (!(error instanceof StepFailure)) throw error;
      await tell(held, false, { why: error.message });
      if (error.code === failureCodes.backendUnavailable) await nothingLoaded(held);
      return false;
    }
  }

  /** Written once; until the server is seen again, nobody else writes that it holds something. */
  async function nothingLoaded({ epoch }: HostLease): Promise<void> {
    if (emptyIn === epoch) return;
    await rows.allUnloaded();
    emptyIn = epoch;
  }

  function keptMax(): number {
    return performance.now() < kept.untilMs ? kept.max : Infinity;
  }

  /** A server that drops one of our models when another is loaded keeps fewer than was thought; loading the one again would only drop the other. */
  function learnKept(wanted: readonly ResidencyRow[], loaded: readonly LoadedModel[], ours: ReadonlySet<string>): void {
    if (performance.now() - lastLoadAtMs > times.settleMs) return;
    // The one for which another was dropped may not be served yet when the server is looked at after its load.
    const there = wanted.filter(({ state, model }) => state !== 'draining' && loaded.some(({ name }) => sameModel(name, model.name)));
    const dropped = wanted.filter((row) => row.state === 'serving' && memory.has(row.key) && !there.includes(row));
    const byOthers = loaded.some(({ name }) => ![...ours].some((mine) => sameModel(name, mine)));
    if (there.length === 0 || dropped.length === 0 || byOthers) return;
    kept = { max: there.length, untilMs: performance.now() + keptBelievedMs };
    log.warn(
      { host, dropped: dropped.map(({ key }) => key), kept: kept.max },
      'the model server keeps fewer models than it was asked for; see OLLAMA_MAX_LOADED_MODELS',
    );
  }

  /** Makes the server hold what is served. */
  async function put(held: HostLease, serving: readonly ResidencyRow[], loaded: readonly LoadedModel[], signal: AbortSignal): Promise<void> {
    const verdict = judgePoll(serving, loaded, memory, performance.now(), times);
    for (const row of verdict.giveUp) {
      log.warn({ host, key: row.key }, 'somebody else keeps unloading this model: it is no longer served');
      await forget(held, row.key);
    }
    for (const [index, row] of verdict.reload.entries()) {
      if (serving.length - verdict.reload.length + index >= keptMax()) {
        await forget(held, row.key); // whoever needs it is decided anew
        continue;
      }
      // Meanwhile a drain may have begun.
      if (!(await rows.residency(held.epoch)).some(({ key, state }) => key === row.key && state === 'serving')) continue;
      log.warn({ host, key: row.key }, 'a served model is gone from the server, or loaded with other options: it is loaded again');
      try {
        remember(row.key, await models.load(row.model, keepAliveMs, signal), performance.now());
      } catch (error) {
        if (!(error instanceof StepFailure) || error.code === failureCodes.backendUnavailable || signal.aborted) throw error;
        log.warn({ host, key: row.key, reason: error.message }, 'a served model could not be loaded again');
        await forget(held, row.key);
      }
    }
    for (const row of verdict.renew) remember(row.key, await models.load(row.model, keepAliveMs, signal), memory.get(row.key)?.reloadedAtMs ?? null);
  }

  function remember(key: ResidencyKey, model: LoadedModel, reloadedAtMs: number | null): void {
    if (!memory.has(key) || reloadedAtMs !== null) lastLoadAtMs = performance.now();
    memory.set(key, { contextLength: model.contextLength, leasedAtMs: performance.now(), reloadedAtMs });
  }

  async function forget(held: HostLease, key: ResidencyKey): Promise<void> {
    memory.delete(key);
    await rows.forget(held.epoch, key);
  }

  async function tell(held: HostLease, ready: boolean, info: JsonObject): Promise<void> {
    const said = JSON.stringify({ ready, info });
    const text = JSON.stringify({ said, room });
    if (told?.epoch === held.epoch && told.text === text) return;
    await rows.setReady(held.epoch, ready, info, room);
    const known = told?.epoch === held.epoch && told.said === said;
    told = { epoch: held.epoch, said, text };
    if (known) return;
    log[ready ? 'info' : 'warn']({ host, ready, ...info }, ready ? 'the model server answers' : `the model server takes no work: ${String(info['why'])}`);
  }
}
