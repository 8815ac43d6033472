import type { JsonObject } from '../../contract/json.js';
import type { ModelNeed } from '../../contract/queues.js';

/** Sampling options of one request; whatever makes the server reload the model belongs to {@link ModelNeed}. */
export interface RequestOptions {
  readonly temperature?: number;
  readonly top_p?: number;
  readonly top_k?: number;
  readonly min_p?: number;
  readonly seed?: number;
  readonly stop?: readonly string[];
  readonly num_predict?: number;
  readonly repeat_penalty?: number;
  readonly repeat_last_n?: number;
  readonly presence_penalty?: number;
  readonly frequency_penalty?: number;
}

/** What every inference has in common. */
export interface InferenceRequest {
  readonly model: ModelNeed;
  readonly options?: RequestOptions;
  /** `json` or a JSON Schema. It steers the answer; whether the answer keeps to it is for the caller to check. */
  readonly format?: 'json' | JsonObject;
  /** whether, or how hard, the model thinks first; absent: as the model does by itself */
  readonly think?: boolean | 'low' | 'medium' | 'high';
  /** of the answer and the thinking together */
  readonly outputBytesMax: number;
  readonly signal: AbortSignal;
  /** called for each piece of the answer as it arrives */
  onText?(text: string): void;
  /** called for each piece of what the model thinks before it answers */
  onThinking?(text: string): void;
}

export interface GenerateRequest extends InferenceRequest {
  readonly prompt: string;
  readonly system?: string;
  /** bytes of PNG, JPEG or WebP files */
  readonly images?: readonly Uint8Array[];
}

export interface ChatMessage {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
  /** bytes of PNG, JPEG or WebP files */
  readonly images?: readonly Uint8Array[];
}

export interface ChatRequest extends InferenceRequest {
  /** oldest first; at least one */
  readonly messages: readonly ChatMessage[];
}

/** What one inference gave. Durations in milliseconds, as the server measured them. */
export interface GenerateResult {
  readonly text: string;
  /** what the model thought before it answered, where it tells that apart */
  readonly thinking?: string;
  /** `length`: the model was cut off by its token limit */
  readonly finish: 'stop' | 'length';
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly totalMs: number;
  readonly loadMs: number;
  readonly promptMs: number;
  readonly outputMs: number;
}

export interface EmbedRequest {
  readonly model: ModelNeed;
  /** at least one text, none of them empty */
  readonly input: readonly string[];
  /** length of the vectors, for models whose vectors may be cut; absent: as the model gives them */
  readonly dimensions?: number;
  readonly signal: AbortSignal;
}

/** Durations in milliseconds. */
export interface EmbedResult {
  /** one vector of unit length for each text, in the order of the input */
  readonly embeddings: readonly (readonly number[])[];
  readonly promptTokens: number;
  readonly totalMs: number;
  readonly loadMs: number;
}

/** What a model can do, as far as the product asks. A server may name more. */
export const modelCapabilities = ['completion', 'embedding', 'vision', 'thinking'] as const;
export type ModelCapability = (typeof modelCapabilities)[number];

export interface InstalledModel {
  readonly name: string;
  readonly digest: string;
  readonly sizeBytes: number;
  readonly details: JsonObject;
}

export interface LoadedModel {
  readonly name: string;
  readonly digest: string;
  /** memory in all, and the part of it on a GPU */
  readonly memoryBytes: number;
  readonly vramBytes: number;
  readonly contextLength: number | null;
  readonly expiresAtMs: number | null;
  /** what holds it: names with the same one are answered from the same memory */
  readonly runner: string;
  /** a text that no other server has for a model in its memory; left out where the server tells nothing of this kind */
  readonly mark?: string;
}

export interface PullProgress {
  readonly status: string;
  readonly completedBytes: number;
  readonly totalBytes: number;
}

/**
 * A model server. The only way to one: steps, hosts and workflows know no server's paths.
 * Every call takes a signal and has deadlines of its own. Errors are {@link StepFailure}s with the codes of MODEL-13:
 * `model_not_found`, `model_pull_failed`, `model_out_of_memory`, `model_load_timeout`, `backend_unavailable` (retryable), or `backend_failed`;
 * `model_lacks_vision`, `model_lacks_thinking`, `model_lacks_completion` and `model_lacks_embedding` for what a model cannot do, and
 * `limit_exceeded` for a prompt that does not fit the context. Nothing is ever cut or left out silently.
 * One suite, test/contracts/model-backend.ts, says what an implementation has to do.
 */
export interface ModelBackend {
  readonly kind: string;
  /** where it is, for messages; never with credentials */
  readonly address: string;
  /** @throws backend_unavailable */
  version(signal: AbortSignal): Promise<string>;
  installed(signal: AbortSignal): Promise<readonly InstalledModel[]>;
  /** What is in memory, once under each installed name that is answered from it, whichever of them loaded it: names of one digest, and of the same weights. */
  loaded(signal: AbortSignal): Promise<readonly LoadedModel[]>;
  /** Fetches a model; resumes a pull that was cut. Refuses names outside the allowed registries before any request. */
  pull(name: string, signal: AbortSignal, onProgress: (progress: PullProgress) => void): Promise<void>;
  /** Loads a model, or renews its lease when it is loaded; returns when it answers. */
  load(model: ModelNeed, keepAliveMs: number, signal: AbortSignal): Promise<LoadedModel>;
  /** Unloads a model, by any of its names, and returns when it is gone; a model that is not loaded is gone. */
  unload(name: string, signal: AbortSignal): Promise<void>;
  /** One inference, streamed. Never loads with other options than `model` says and never touches the lease. */
  generate(request: GenerateRequest): Promise<GenerateResult>;
  /** One inference over a conversation, streamed, under the same rules. */
  chat(request: ChatRequest): Promise<GenerateResult>;
  /** The vectors of some texts; the lease stays as it is here too. */
  embed(request: EmbedRequest): Promise<EmbedResult>;
  /** What an installed model can do. */
  capabilities(name: string, signal: AbortSignal): Promise<ReadonlySet<ModelCapability>>;
}
