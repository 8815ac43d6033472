import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type {
  ChatRequest,
  GenerateRequest,
  GenerateResult,
  InferenceRequest,
  LoadedModel,
  ModelBackend,
  ModelCapability,
} from '../../activities/backends/backend.js';
import { failureCodes, StepFailure } from '../../contract/failure.js';
import { defaultRegistries, parseModelName, sameModel } from '../../contract/model-name.js';
import type { ModelNeed } from '../../contract/queues.js';

/** What a {@link MemoryBackend} is told to do wrong in the next inferences. */
export type MemoryHarm =
  | { readonly kind: 'away' | 'full' }
  | { readonly kind: 'stall' | 'cut' | 'end'; readonly afterPieces: number }
  | { readonly kind: 'error'; readonly afterPieces: number; readonly message: string };

export interface MemoryBackend extends ModelBackend {
  harm: MemoryHarm | undefined;
  /** inferences under way */
  underWay(): number;
  /** loads since the start: how often a model came into memory or changed its context */
  loads(): number;
}

const bytesPerModel = 1_000_000;
const stallMs = 200;
const embeddingLength = 8;

/**
 * A model backend without a server: it answers with words made of the prompt and the seed. The second implementation of the interface [FUT-01].
 * @param aliases further names, each with the model it stands for
 * @param abilities what every model can do
 */
export function createMemoryBackend(
  models: readonly string[],
  aliases: Readonly<Record<string, string>> = {},
  abilities: readonly ModelCapability[] = ['completion', 'embedding'],
): MemoryBackend {
  const names = [...models, ...Object.keys(aliases)];
  const targetOf = (name: string) => aliases[name] ?? name;
  const loadedModels = new Map<string, LoadedModel>();
  let underWay = 0;
  let loads = 0;
  const fail = (code: string, message: string, retryable: boolean) => new StepFailure(code, message, { retryable });

  const answering = (signal: AbortSignal) => {
    signal.throwIfAborted();
    if (backend.harm?.kind === 'away') throw fail(failureCodes.backendUnavailable, 'the server does not answer', true);
  };
  const allowed = (name: string): string => {
    const parsed = parseModelName(name, defaultRegistries);
    if ('problem' in parsed) throw fail(failureCodes.invalidInput, parsed.problem, false);
    return parsed.name;
  };
  const installedName = (name: string): string => {
    const found = names.find((each) => sameModel(each, allowed(name)));
    if (found === undefined) throw fail(failureCodes.modelNotFound, `model ${name} not found`, false);
    return found;
  };
  const bring = (need: ModelNeed, expiresAtMs: number | null): LoadedModel => {
    const name = installedName(need.name);
    const before = loadedModels.get(targetOf(name));
    if (before?.contextLength !== need.numCtx) loads += 1;
    const now = {
      name,
      digest: digestOf(targetOf(name)),
      memoryBytes: bytesPerModel,
      vramBytes: 0,
      contextLength: need.numCtx,
      expiresAtMs: expiresAtMs ?? before?.expiresAtMs ?? null,
      runner: digestOf(targetOf(name)),
    };
    loadedModels.set(targetOf(name), now);
    return now;
  };

  const backend: MemoryBackend = {
    kind: 'memory',
    address: 'memory:',
    harm: undefined,
    underWay: () => underWay,
    loads: () => loads,
    async version(signal) {
      answering(signal);
      return '1.0.0';
    },
    async installed(signal) {
      answering(signal);
      return names.map((name) => ({ name, digest: digestOf(targetOf(name)), sizeBytes: bytesPerModel, details: {} }));
    },
    async loaded(signal) {
      answering(signal);
      return names.flatMap((name) => [loadedModels.get(targetOf(name)) ?? []].flat().map((loaded) => ({ ...loaded, name })));
    },
    async pull(name, signal) {
      allowed(name);
      answering(signal);
      installedName(name);
    },
    async load(need, keepAliveMs, signal) {
      answering(signal);
      return bring(need, Date.now() + keepAliveMs);
    },
    async unload(name, signal) {
      answering(signal);
      for (const each of names) if (sameModel(each, name)) loadedModels.delete(targetOf(each));
    },
    generate(request) {
      const images = request.images?.length ?? 0;
      return infer(request, [request.system ?? '', request.prompt].join(' ').trim(), request.prompt === '', images);
    },
    chat({ messages, ...request }: ChatRequest) {
      const images = messages.reduce((sum, message) => sum + (message.images?.length ?? 0), 0);
      const prompt = messages.map(({ content }) => content).join(' ');
      return infer(request, prompt, prompt.trim() === '', images);
    },
    async embed({ model, input, dimensions = embeddingLength, signal }) {
      allowed(model.name);
      if (input.length === 0 || input.includes('')) throw fail(failureCodes.invalidInput, 'a text to embed may not be empty', false);
      answering(signal);
      busy();
      if (input.some((text) => wordsIn(text) > model.numCtx)) throw fail(failureCodes.limitExceeded, 'a text exceeds the context', false);
      bring(model, null);
      const promptTokens = input.reduce((sum, text) => sum + wordsIn(text), 0);
      return { embeddings: input.map((text) => vectorOf(text, dimensions)), promptTokens, totalMs: 1, loadMs: 0 };
    },
    async capabilities(name, signal) {
      answering(signal);
      installedName(name);
      return new Set(abilities);
    },
  };
  return backend;

  async function infer(request: InferenceRequest, prompt: string, empty: boolean, images: number): Promise<GenerateResult> {
    allowed(request.model.name);
    if (empty) throw fail(failureCodes.invalidInput, 'a prompt may not be empty', false);
    answering(request.signal);
    busy();
    if (images > 0 && !abilities.includes('vision')) throw fail(failureCodes.modelLacksVision, 'the model takes no images', false);
    if (request.think && !abilities.includes('thinking')) throw fail(failureCodes.modelLacksThinking, 'the model does not think', false);
    const loadsBefore = loads;
    bring(request.model, null);
    underWay += 1;
    try {
      return await answer({ ...request, prompt }, backend.harm, loads > loadsBefore ? 5 : 0);
    } finally {
      underWay -= 1;
    }
  }

  function busy(): void {
    if (backend.harm?.kind === 'full') throw fail('backend_busy', 'too much to do', true);
  }

  async function answer(request: GenerateRequest, harm: MemoryHarm | undefined, loadMs: number): Promise<GenerateResult> {
    const promptTokens = wordsIn(request.prompt);
    if (promptTokens > request.model.numCtx) throw fail(failureCodes.limitExceeded, 'the prompt exceeds the context', false);
    const limit = Math.min(request.options?.num_predict ?? request.model.numCtx, request.model.numCtx - promptTokens);
    const words = request.format === undefined ? undefined : ['{"ok":', 'true}'];
    const pieces: string[] = [];
    let bytes = 0;
    for (let index = 0; index < (words?.length ?? limit); index += 1) {
      if (harm !== undefined && 'afterPieces' in harm && index >= harm.afterPieces) {
        if (harm.kind === 'stall') await delay(stallMs, undefined, { signal: request.signal });
        throw harmed(harm);
      }
      // A turn of the event loop per word, as a stream has, in which a signal can arrive.
      await delay(0);
      request.signal.throwIfAborted();
      const piece = words?.[index] ?? `${wordOf(request.prompt, request.options?.seed ?? 0, index)} `;
      bytes += Buffer.byteLength(piece);
      if (bytes > request.outputBytesMax) throw fail(failureCodes.limitExceeded, 'the answer is too large', false);
      pieces.push(piece);
      request.onText?.(piece);
    }
    const outputMs = pieces.length;
    return {
      text: pieces.join(''),
      finish: words === undefined ? 'length' : 'stop',
      promptTokens,
      outputTokens: pieces.length,
      totalMs: loadMs + 1 + outputMs,
      loadMs,
      promptMs: 1,
      outputMs,
    };
  }

  function harmed(harm: MemoryHarm): StepFailure {
    if (harm.kind === 'stall') return fail(failureCodes.timeout, 'the stream was silent', true);
    if (harm.kind === 'cut') return fail(failureCodes.backendUnavailable, 'the connection broke', true);
    return fail('backend_failed', harm.kind === 'error' ? harm.message : 'the answer is not complete', true);
  }
}

function wordsIn(text: string): number {
  return text.split(/\s+/).length;
}

/** Made of the text's hash; of unit length. */
function vectorOf(text: string, length: number): number[] {
  const bytes = createHash('sha256').update(text).digest().subarray(0, length);
  const vector = [...bytes].map((byte) => byte - 127.5);
  const norm = Math.hypot(...vector);
  return vector.map((each) => each / norm);
}

function digestOf(name: string): string {
  return createHash('sha256').update(name).digest('hex');
}

function wordOf(prompt: string, seed: number, index: number): string {
  return createHash('sha256').update(`${seed}/${index}/${prompt}`).digest('hex').slice(0, 4);
}
