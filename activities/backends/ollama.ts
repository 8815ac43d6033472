import { setTimeout as delay } from 'node:timers/promises';
import type { ListResponse, ModelResponse, ProgressResponse } from 'ollama';
import type { Logger } from 'pino';
import { failureCodes, StepFailure } from '../../contract/failure.js';
import type { JsonObject } from '../../contract/json.js';
import { loopbackRegistry, parseModelName, sameModel } from '../../contract/model-name.js';
import type { InstalledModel, LoadedModel, ModelBackend, PullProgress } from './backend.js';
import { callOllama, eachLine } from './ollama-call.js';
import { backendFailed, OllamaAnswer } from './ollama-errors.js';
import { createOllamaInference } from './ollama-inference.js';
import { parseOllamaAddress } from './server/ollama-address.js';

/** Deadlines in milliseconds; each bounds one kind of silence or work, and all of them end the connection. */
export interface OllamaTimeouts {
  /** lists, version */
  readonly requestMs: number;
  /** from the request to the first token: a model that has to be loaded and a long prompt fall into it */
  readonly firstTokenMs: number;
  /** between two tokens */
  readonly idleMs: number;
  /** one inference as a whole; a step's own limit comes first as a rule */
  readonly totalMs: number;
  readonly loadMs: number;
  /** until an unloaded model is gone; it waits for inferences under way */
  readonly unloadMs: number;
  /** between two signs of progress of a pull; Ollama itself tries a stalled part again after 30 s, six times */
  readonly pullIdleMs: number;
  readonly pullTotalMs: number;
}

export const defaultOllamaTimeouts: OllamaTimeouts = {
  requestMs: 10_000,
  firstTokenMs: 600_000,
  idleMs: 120_000,
  totalMs: 3_600_000,
  loadMs: 600_000,
  unloadMs: 120_000,
  pullIdleMs: 300_000,
  pullTotalMs: 86_400_000,
};

export interface OllamaBackendOptions {
  /** `OLLAMA_HOST` in any of its forms */
  readonly address: string;
  /** registry hosts that names may carry, see contract/model-name.ts */
  readonly registries: readonly string[];
  /** false: models are only what is installed already */
  readonly allowPull: boolean;
  readonly timeouts: OllamaTimeouts;
  readonly log: Logger;
}

/** `/api/ps` is asked at most this often: 0.24.0 reads its table there without a lock, and a load at that moment can end the server. */
const loadedMaxAgeMs = 2_000;

/** A JSON answer of `/api/ps` as 0.24.0 gives it; the client's type lacks `context_length`. */
type RunningModel = ModelResponse & { readonly context_length?: number };

/** The model backend for Ollama, 0.17.1 or later. Opens no connection until it is used and keeps none. */
export function createOllamaBackend(options: OllamaBackendOptions): ModelBackend {
  const { registries, allowPull, timeouts, log } = options;
  const address = parseOllamaAddress(options.address);
  let lastLoaded: { readonly models: readonly LoadedModel[]; readonly atMs: number } | undefined;
  let loadsUnderWay = 0;
  /** by digest, which names what never changes */
  const runnersOf = new Map<string, string>();

  /** Every call goes through here: what a server that was away held before is gone when it is back. */
  const callServer: typeof callOllama = async (call, work) => {
    try {
      return await callOllama(call, work);
    } catch (error) {
      if (error instanceof StepFailure && error.code === failureCodes.backendUnavailable) lastLoaded = undefined;
      throw error;
    }
  };

  const listCall = (signal: AbortSignal) => ({
    kind: 'list' as const,
    model: null,
    address,
    signal,
    deadlines: { firstMs: timeouts.requestMs, idleMs: timeouts.requestMs, totalMs: timeouts.requestMs },
    timeoutCode: failureCodes.backendUnavailable,
  });

  /** Refuses a name before any request: a name alone can send a prompt to another machine. */
  const allowed = (name: string): string => {
    const parsed = parseModelName(name, registries);
    if ('problem' in parsed) throw new StepFailure(failureCodes.invalidInput, parsed.problem, { retryable: false });
    return parsed.name;
  };

  const readInstalled = async (signal: AbortSignal): Promise<readonly InstalledModel[]> => {
    const answer = await callServer(listCall(signal), (client) => client.list() as Promise<{ models: ModelResponse[] | null }>);
    return (answer.models ?? []).map(installedModelOf);
  };

  const readLoaded = async (signal: AbortSignal): Promise<readonly LoadedModel[]> => {
    const answer = await callServer(listCall(signal), (client) => client.ps() as Promise<Omit<ListResponse, 'models'> & { models: RunningModel[] | null }>);
    const running = (answer.models ?? []).map(loadedModelOf);
    const models = running.length === 0 ? running : await underEachName(running, await readInstalled(signal), signal);
    lastLoaded = { models, atMs: performance.now() };
    return models;
  };

  /**
   * Ollama tells a model in memory by the name that loaded it, and answers requests for every other name of its digest from the same runner, and for those made
   * from the same weights with the same adapters and runner options (schedulerModelKey and needsReload in server/sched.go of 0.24.0).
   */
  const underEachName = async (running: readonly LoadedModel[], installed: readonly InstalledModel[], signal: AbortSignal): Promise<LoadedModel[]> => {
    const found = [...running];
    for (const model of running) {
      const own = installed.find(({ name, digest }) => sameModel(name, model.name) && digest === model.digest);
      for (const other of installed) {
        if (running.some(({ name }) => sameModel(name, other.name))) continue;
        const isSame =
          other.digest === model.digest || (own !== undefined && sameKind(own, other) && (await runnerOf(own, signal)) === (await runnerOf(other, signal)));
        if (isSame) found.push({ ...model, name: other.name, digest: other.digest });
      }
    }
    return found;
  };

  /** What Ollama starts to answer for a model, but for its context: two models with the same one share it. Asked for once for each digest. */
  const runnerOf = async ({ name, digest }: InstalledModel, signal: AbortSignal): Promise<string> => {
    const known = runnersOf.get(digest);
    if (known !== undefined) return known;
    const { modelfile } = await callServer(listCall(signal), (client) => client.show({ model: name })).catch((error: unknown) => {
      if (!(error instanceof StepFailure) || error.code === failureCodes.backendUnavailable) throw error;
      log.warn({ model: name, reason: error.message }, 'what a model is made of is not told: it is taken to share memory with no other');
      return { modelfile: '' };
    });
    const runner = runnerText(modelfile) || digest;
    runnersOf.set(digest, runner);
    return runner;
  };

  /** Ollama's answer to an empty prompt: it loads, keeps, or with 0 releases the model, and generates nothing. */
  const keepAlive = (
    model: string,
    keepAliveSeconds: number,
    requestOptions: object | undefined,
    call: { kind: 'load' | 'unload'; limitMs: number; signal: AbortSignal },
  ) =>
    callServer(
      {
        kind: call.kind,
        model,
        address,
        signal: call.signal,
        deadlines: { firstMs: call.limitMs, idleMs: call.limitMs, totalMs: call.limitMs },
        timeoutCode: call.kind === 'load' ? failureCodes.modelLoadTimeout : failureCodes.backendUnavailable,
      },
      async (client, alive) => {
        const lease = { model, keep_alive: keepAliveSeconds, ...(requestOptions === undefined ? {} : { options: requestOptions }) };
        try {
          await eachLine(await client.generate({ ...lease, prompt: '', stream: true }), alive, () => {});
        } catch (error) {
          // A model that only embeds refuses every other request.
          if (!(error instanceof OllamaAnswer) || !/does not support generate/.test(error.message)) throw error;
          await client.embed({ ...lease, input: [] });
        }
      },
    );

  return {
    kind: 'ollama',
    address: address.url,

    async version(signal) {
      const { version } = await callServer(listCall(signal), (client) => client.version());
      return version;
    },

    installed: readInstalled,

    async loaded(signal) {
      signal.throwIfAborted();
      const fresh = lastLoaded !== undefined && (loadsUnderWay > 0 || performance.now() - lastLoaded.atMs < loadedMaxAgeMs);
      return fresh && lastLoaded !== undefined ? lastLoaded.models : readLoaded(signal);
    },

    async pull(name, signal, onProgress) {
      const model = allowed(name);
      if (!allowPull)
        throw new StepFailure(failureCodes.modelNotFound, `model ${model} is not installed, and this installation may not pull models`, {
          retryable: false,
          details: { model },
        });
      try {
        await pullOnce(model, signal, onProgress);
      } catch (error) {
        // Ollama has deleted the file whose digest was wrong, so one more pull fetches it anew: a damaged transfer heals, a wrong source stays wrong.
        if (!(error instanceof StepFailure) || error.code !== failureCodes.modelDigestMismatch) throw error;
        log.warn({ model }, 'the pulled model had a wrong digest; it is pulled once more');
        await pullOnce(model, signal, onProgress);
      }
    },

    async load(need, keepAliveMs, signal) {
      const model = allowed(need.name);
      // A reading made now and kept is what `loaded` answers with meanwhile.
      if (lastLoaded === undefined) await readLoaded(signal);
      loadsUnderWay += 1;
      try {
        await keepAlive(model, Math.max(1, Math.round(keepAliveMs / 1000)), { num_ctx: need.numCtx }, { kind: 'load', limitMs: timeouts.loadMs, signal });
      } finally {
        loadsUnderWay -= 1;
      }
      const found = (await readLoaded(signal)).find((each) => sameModel(each.name, model));
      if (found === undefined) throw new StepFailure(backendFailed, `Ollama loaded ${model} and dropped it at once`, { retryable: true, details: { model } });
      return found;
    },

    async unload(name, signal) {
      const limit = AbortSignal.timeout(timeouts.unloadMs);
      const both = AbortSignal.any([signal, limit]);
      try {
        await keepAlive(name, 0, undefined, { kind: 'unload', limitMs: timeouts.unloadMs, signal: both }).catch((error: unknown) => {
          if (!(error instanceof StepFailure) || error.code !== failureCodes.modelNotFound) throw error;
        });
        // Absent twice: a model that is being stopped can be missing from one answer and back in the next.
        for (let absent = 0, pauseMs = 25; absent < 2; pauseMs = Math.min(pauseMs * 2, 500)) {
          await delay(pauseMs, undefined, { signal: both });
          absent = (await readLoaded(both)).some((each) => sameModel(each.name, name)) ? 0 : absent + 1;
        }
      } catch (error) {
        signal.throwIfAborted();
        if (!limit.aborted) throw error;
        throw new StepFailure(backendFailed, `Ollama did not unload ${name} within ${timeouts.unloadMs / 1000} s`, {
          retryable: true,
          details: { model: name },
          cause: error,
        });
      }
    },

    ...createOllamaInference({
      address,
      callServer,
      allowed,
      requestMs: timeouts.requestMs,
      deadlines: { firstMs: timeouts.firstTokenMs, idleMs: timeouts.idleMs, totalMs: timeouts.totalMs },
    }),
  };

  async function pullOnce(model: string, signal: AbortSignal, onProgress: (progress: PullProgress) => void): Promise<void> {
    const layers = new Map<string, ProgressResponse>();
    await callServer(
      {
        kind: 'pull',
        model,
        address,
        signal,
        deadlines: { firstMs: timeouts.pullIdleMs, idleMs: timeouts.pullIdleMs, totalMs: timeouts.pullTotalMs },
        timeoutCode: failureCodes.modelPullFailed,
      },
      async (client, alive) => {
        let completedBefore = -1;
        let statusBefore = '';
        const moved = (progress: PullProgress) => {
          // Ollama repeats the same figure 16 times a second while nothing comes, so only a change is a sign of life.
          if (progress.completedBytes !== completedBefore || progress.status !== statusBefore) alive();
          completedBefore = progress.completedBytes;
          statusBefore = progress.status;
        };
        const stream = await client.pull({ model, stream: true, insecure: loopbackRegistry(model) !== undefined });
        await eachLine(
          stream,
          () => {},
          (line) => {
            if (line.digest !== undefined) layers.set(line.digest, line);
            const progress = { status: line.status, completedBytes: sum(layers, 'completed'), totalBytes: sum(layers, 'total') };
            moved(progress);
            onProgress(progress);
          },
        );
      },
    );
  }
}

function sum(layers: ReadonlyMap<string, ProgressResponse>, field: 'completed' | 'total'): number {
  let bytes = 0;
  for (const layer of layers.values()) bytes += layer[field] ?? 0;
  return bytes;
}

function installedModelOf(model: ModelResponse): InstalledModel {
  return { name: model.name, digest: model.digest, sizeBytes: model.size, details: { ...model.details } as unknown as JsonObject };
}

/** Whether two models may have the same weights: what the list says of those. */
function sameKind({ details: a }: InstalledModel, { details: b }: InstalledModel): boolean {
  return ['format', 'family', 'parameter_size', 'quantization_level'].every((field) => a[field] === b[field]);
}

/** Files and options in a Modelfile that need a runner of their own. */
const runnerLine = /^(?:FROM|ADAPTER|PARAMETER (?:num_batch|num_gpu|main_gpu|use_mmap|num_thread)) .*$/gm;

function runnerText(modelfile: string): string {
  return (modelfile.match(runnerLine) ?? []).toSorted().join('\n');
}

/** To a millionth of a second or finer: as exact as this no two servers agree by chance. */
const exactTime = /:\d\d\.(?!0+[^\d])\d{6,}/;

function loadedModelOf(model: RunningModel): LoadedModel {
  const expiresAtMs = Date.parse(String(model.expires_at));
  return {
    name: model.name,
    digest: model.digest,
    memoryBytes: model.size,
    vramBytes: model.size_vram,
    contextLength: model.context_length ?? null,
    expiresAtMs: Number.isNaN(expiresAtMs) ? null : expiresAtMs,
    runner: model.digest,
    ...(exactTime.test(String(model.expires_at)) ? { mark: String(model.expires_at) } : {}),
  };
}
