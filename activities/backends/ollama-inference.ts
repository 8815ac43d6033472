import type { ChatRequest as OllamaChat, EmbedRequest as OllamaEmbed, GenerateRequest as OllamaGenerate, Ollama } from 'ollama';
import { failureCodes, StepFailure } from '../../contract/failure.js';
import {
  type ChatMessage,
  type ChatRequest,
  type EmbedRequest,
  type EmbedResult,
  type GenerateRequest,
  type GenerateResult,
  type InferenceRequest,
  type ModelCapability,
  modelCapabilities,
} from './backend.js';
import { type callOllama, type CallDeadlines, eachLine } from './ollama-call.js';
import { backendFailed } from './ollama-errors.js';
import { steeringSchema } from './ollama-grammar.js';
import type { OllamaAddress } from './server/ollama-address.js';

export interface OllamaInferenceOptions {
  readonly address: OllamaAddress;
  /** makes a call, and hears of its failure */
  readonly callServer: typeof callOllama;
  readonly deadlines: CallDeadlines;
  /** of the question what a model can do */
  readonly requestMs: number;
  /** the name as the server gets it. @throws {StepFailure} for one that is refused before any request */
  allowed(name: string): string;
}

/** The inferences of the Ollama backend: how each request and each line of its answer look on the wire. */
export function createOllamaInference({ address, callServer, deadlines, requestMs, allowed }: OllamaInferenceOptions) {
  return {
    async generate(request: GenerateRequest): Promise<GenerateResult> {
      const model = allowed(request.model.name);
      // An empty prompt would load the model and answer nothing.
      if (request.prompt === '') throw invalid('a prompt may not be empty');
      if (request.images?.length) await requireVision(model, request.images, request.signal);
      return stream('generate', model, request, request.prompt.length + (request.system?.length ?? 0), async (client, body, onLine) => {
        const lines = await client.generate({
          ...body,
          prompt: request.prompt,
          ...(request.system === undefined ? {} : { system: request.system }),
          // Bytes, never a text: the client would take a text that is the path of a file for the file.
          ...(request.images?.length ? { images: [...request.images] } : {}),
        });
        await onLine(lines, ({ response, thinking }) => ({ text: response ?? '', thinking: thinking ?? '' }));
      });
    },

    async chat(request: ChatRequest): Promise<GenerateResult> {
      const model = allowed(request.model.name);
      // No message would load the model and answer nothing.
      if (request.messages.every(({ content }) => content === '')) throw invalid('a conversation may not be empty');
      const images = request.messages.flatMap((message) => message.images ?? []);
      if (images.length > 0) await requireVision(model, images, request.signal);
      const characters = request.messages.reduce((sum, { content }) => sum + content.length, 0);
      return stream('chat', model, request, characters, async (client, body, onLine) => {
        const lines = await client.chat({ ...body, messages: request.messages.map(messageOf) });
        await onLine(lines, ({ message }) => ({ text: message.content, thinking: message.thinking ?? '' }));
      });
    },

    async embed(request: EmbedRequest): Promise<EmbedResult> {
      const model = allowed(request.model.name);
      // An empty list would load the model and answer nothing, an empty text would be left out.
      if (request.input.length === 0 || request.input.includes('')) throw invalid('a text to embed may not be empty');
      const body: OllamaEmbed = {
        model,
        input: [...request.input],
        truncate: false,
        options: { num_ctx: request.model.numCtx },
        ...(request.dimensions === undefined ? {} : { dimensions: request.dimensions }),
      };
      const longest = Math.max(...request.input.map((text) => text.length));
      const call = { kind: 'embed' as const, model, address, deadlines, signal: request.signal };
      const answer = await fits(longest, request, () => callServer(call, (client) => client.embed(body)));
      if (answer.embeddings.length !== request.input.length) {
        throw new StepFailure(backendFailed, `Ollama gave ${answer.embeddings.length} vectors of ${model} for ${request.input.length} texts`, {
          retryable: true,
        });
      }
      return {
        embeddings: answer.embeddings,
        promptTokens: answer.prompt_eval_count ?? 0,
        totalMs: milliseconds(answer.total_duration),
        loadMs: milliseconds(answer.load_duration),
      };
    },

    capabilities: (name: string, signal: AbortSignal) => capabilities(allowed(name), signal),
  };

  async function capabilities(model: string, signal: AbortSignal): Promise<ReadonlySet<ModelCapability>> {
    const named: readonly string[] = (await show(model, signal)).capabilities ?? [];
    return new Set(modelCapabilities.filter((capability) => named.includes(capability)));
  }

  function show(model: string, signal: AbortSignal) {
    const call = {
      kind: 'list' as const,
      model,
      address,
      signal,
      deadlines: { firstMs: requestMs, idleMs: requestMs, totalMs: requestMs },
      timeoutCode: failureCodes.backendUnavailable,
    };
    return callServer(call, (client) => client.show({ model }));
  }

  /** A model that cannot see is sent the marks of its images as text, and says nothing about it. */
  async function requireVision(model: string, images: readonly Uint8Array[], signal: AbortSignal): Promise<void> {
    const { capabilities: able, projector_info: projector } = (await show(model, signal)) as { capabilities?: readonly string[]; projector_info?: object };
    if (able?.includes('vision')) {
      // The library behind models with a projector reads PNG and JPEG, and its process ends over a WebP.
      const webp = images.some((bytes) => Buffer.from(bytes.buffer, bytes.byteOffset, 4).toString('latin1') === 'RIFF');
      if (projector === undefined || !webp) return;
      throw new StepFailure(failureCodes.invalidInput, `model ${model} takes PNG and JPEG images, no WebP`, { retryable: false, details: { model } });
    }
    throw new StepFailure(failureCodes.modelLacksVision, `model ${model} cannot see: it takes no images`, { retryable: false, details: { model } });
  }

  /** One streamed inference: its pieces counted, told and put together. */
  async function stream(kind: 'generate' | 'chat', model: string, request: InferenceRequest, characters: number, ask: Ask): Promise<GenerateResult> {
    const once = (body: Body) => {
      const answer = new Answer(model, request);
      const call = { kind, model, address, deadlines, signal: request.signal };
      return callServer(call, async (client, alive) => {
        await ask(client, body, (lines, piecesOf) =>
          eachLine(lines, alive, (line) => {
            answer.add(piecesOf(line));
            if (line.done) answer.end = line;
          }),
        );
        return answer.result();
      });
    };
    const body = bodyOf(model, request);
    return fits(characters, request, () =>
      once(body).catch((error: unknown) => {
        // Nothing has been inferred then. JSON of any shape is the most that such a server can be held to.
        if (!(error instanceof StepFailure) || !/invalid JSON schema in format/i.test(error.message)) throw error;
        return once({ ...body, format: 'json' });
      }),
    );
  }
}

type Ask = (client: Ollama, body: Body, onLine: OnLines) => Promise<void>;

type OnLines = <Line extends Ended & { readonly done: boolean }>(lines: AsyncIterable<Line>, piecesOf: (line: Line) => Pieces) => Promise<void>;

interface Pieces {
  readonly text: string;
  readonly thinking: string;
}

/** What has come of an answer. */
class Answer {
  end: Ended | undefined;
  private readonly text: string[] = [];
  private readonly thinking: string[] = [];
  private bytes = 0;
  private readonly model: string;
  private readonly request: InferenceRequest;

  constructor(model: string, request: InferenceRequest) {
    this.model = model;
    this.request = request;
  }

  add({ text, thinking }: Pieces): void {
    const { outputBytesMax } = this.request;
    this.bytes += Buffer.byteLength(text) + Buffer.byteLength(thinking);
    if (this.bytes > outputBytesMax) {
      throw new StepFailure(failureCodes.limitExceeded, `model ${this.model} gave more than ${outputBytesMax} bytes`, {
        retryable: false,
        details: { limit: 'output_bytes', model: this.model, outputBytesMax },
      });
    }
    if (text !== '') {
      this.text.push(text);
      this.request.onText?.(text);
    }
    if (thinking !== '') {
      this.thinking.push(thinking);
      this.request.onThinking?.(thinking);
    }
  }

  result(): GenerateResult {
    const finish = this.end?.done_reason;
    if (finish !== 'stop' && finish !== 'length') {
      throw new StepFailure(backendFailed, `Ollama ended the answer of ${this.model} without saying that it is complete`, {
        retryable: true,
        details: { model: this.model, reason: finish ?? null },
      });
    }
    return {
      text: storable(this.text.join('')),
      ...(this.thinking.length === 0 ? {} : { thinking: storable(this.thinking.join('')) }),
      finish,
      promptTokens: this.end?.prompt_eval_count ?? 0,
      outputTokens: this.end?.eval_count ?? 0,
      totalMs: milliseconds(this.end?.total_duration),
      loadMs: milliseconds(this.end?.load_duration),
      promptMs: milliseconds(this.end?.prompt_eval_duration),
      outputMs: milliseconds(this.end?.eval_duration),
    };
  }
}

/** The client's types lack `truncate` and `shift`; it sends what it is given. */
type Body = Pick<OllamaGenerate & OllamaChat, 'model' | 'format' | 'options' | 'think'> & { stream: true; truncate: false; shift: false };

/**
 * What the requests of all inferences have. Never `keep_alive`: the lease belongs to the host, and with -1 here another model's request hung for ever.
 * `truncate` and `shift` off: a prompt that does not fit is an error and an answer that does not fit ends as `length`, never silently cut.
 */
function bodyOf(model: string, request: InferenceRequest): Body {
  const { stop, ...sampling } = request.options ?? {};
  return {
    model,
    stream: true,
    truncate: false,
    shift: false,
    ...(request.format === undefined ? {} : { format: typeof request.format === 'string' ? request.format : steeringSchema(request.format) }),
    ...(request.think === undefined ? {} : { think: request.think }),
    options: {
      ...sampling,
      ...(stop === undefined ? {} : { stop: [...stop] }),
      num_ctx: request.model.numCtx,
      num_predict: sampling.num_predict ?? request.model.numCtx,
    },
  };
}

function messageOf({ role, content, images }: ChatMessage): NonNullable<OllamaChat['messages']>[number] {
  return { role, content, ...(images?.length ? { images: [...images] } : {}) };
}

/** Puts numbers to Ollama's refusal of a prompt that is too long, which has none. */
async function fits<Result>(
  characters: number,
  { model }: { readonly model: { name: string; numCtx: number } },
  infer: () => Promise<Result>,
): Promise<Result> {
  try {
    return await infer();
  } catch (error) {
    if (!(error instanceof StepFailure) || error.code !== failureCodes.limitExceeded || !/context length/.test(error.message)) throw error;
    const text = `the prompt of ${characters} characters does not fit the context of model ${model.name}: num_ctx is ${model.numCtx} tokens, or less where the model was made for less`;
    throw new StepFailure(failureCodes.limitExceeded, text, {
      retryable: false,
      details: { limit: 'num_ctx', model: model.name, num_ctx: model.numCtx, prompt_characters: characters },
      cause: error,
    });
  }
}

function invalid(message: string): StepFailure {
  return new StepFailure(failureCodes.invalidInput, message, { retryable: false });
}

/** The last line of a stream as far as it is used; durations in nanoseconds. */
interface Ended {
  readonly done_reason?: string;
  readonly total_duration?: number;
  readonly load_duration?: number;
  readonly prompt_eval_count?: number;
  readonly prompt_eval_duration?: number;
  readonly eval_count?: number;
  readonly eval_duration?: number;
}

/** PostgreSQL's jsonb takes neither NUL nor a lone surrogate, and a model may give both. */
function storable(text: string): string {
  return text.replace(/\0|\p{Surrogate}/gu, '\ufffd');
}

function milliseconds(nanoseconds: number | undefined): number {
  return (nanoseconds ?? 0) / 1e6;
}
