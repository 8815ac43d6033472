import { z } from 'zod';
import { failureCodes, StepFailure } from '../../contract/failure.js';
import type { JsonObject } from '../../contract/json.js';
import type { Usage } from '../../contract/line.js';
import { defaultRegistries, modelNameCharsMax, type ParsedModelName, parseModelName, sameModel } from '../../contract/model-name.js';
import type { ModelNeed } from '../../contract/queues.js';
import { JsonObjectSchema } from '../../contract/schemas/json-value.js';
import type { ChatMessage, GenerateRequest, GenerateResult } from '../backends/backend.js';
import { schemaFaults } from './answer-schema.js';
import type { StepContext } from './define-step.js';

/** Context length in tokens of a step that names none. */
export const defaultNumCtx = 4096;
/** Most characters of a prompt that any installation may allow; `limits.prompt_chars` says what this one does. */
export const promptCharsMax = 10_000_000;

/** A model's name by its form. Whether its registry is allowed is the configuration's, so the template compiler and the backend check it. */
export const ModelName = z
  .string()
  .min(1)
  .max(modelNameCharsMax)
  .superRefine((text, context) => {
    const parsed = parseByForm(text);
    if ('problem' in parsed) context.addIssue({ code: 'custom', message: parsed.problem });
  })
  .describe('A model as Ollama names it, such as llama3.1:8b');

export const PromptText = z
  .string()
  .max(promptCharsMax)
  .refine((text) => !text.includes('\0'), 'may not contain the character NUL');

export const Prompt = PromptText.min(1).refine((text) => text.trim() !== '', 'may not be blank');

export const Think = z
  .union([z.boolean(), z.enum(['low', 'medium', 'high'])])
  .describe('Whether, or how hard, the model thinks before it answers; default: as the model does by itself. Only for models that can.');

/**
 * Options of a request, with Ollama's names. What is not here is refused: `keep_alive` belongs to the host, `num_gpu` and its like would load
 * the model again, `raw` is not supported. `num_ctx` decides with which context the model is loaded.
 */
export const ModelOptions = z.strictObject({
  num_ctx: z
    .int()
    .min(256)
    .max(1_048_576)
    .optional()
    .describe(`Context length in tokens; default ${defaultNumCtx}. Steps with different values load the model anew.`),
  num_predict: z.int().min(1).max(131_072).optional().describe('Most tokens of the answer; default: as many as fit the context'),
  temperature: z.number().min(0).max(2).optional().describe('How freely words are chosen; 0: always the likeliest'),
  top_p: z.number().min(0).max(1).optional().describe('Choose among the likeliest words that together have this probability'),
  top_k: z.int().min(0).max(1000).optional().describe('Choose among this many of the likeliest words; 0: all'),
  min_p: z.number().min(0).max(1).optional().describe('Leave out words less likely than this part of the likeliest one'),
  seed: z.int().min(0).max(2_147_483_647).optional().describe('The same seed gives the same answer, on the same model and server'),
  stop: z.array(z.string().min(1).max(200)).max(16).optional().describe('Texts at which the answer ends'),
  repeat_penalty: z.number().min(0.1).max(10).optional().describe('Above 1: words that came before become less likely'),
  repeat_last_n: z.int().min(0).max(1_048_576).optional().describe('How many tokens back `repeat_penalty` looks'),
  presence_penalty: z.number().min(-2).max(2).optional().describe('Above 0: words that came at all become less likely'),
  frequency_penalty: z.number().min(-2).max(2).optional().describe('Above 0: words become less likely the more often they came'),
});
export type ModelOptions = z.output<typeof ModelOptions>;

export const AnswerFormat = z
  .union([
    z.literal('json'),
    JsonObjectSchema.superRefine((schema, context) => {
      for (const { path, text } of schemaFaults(schema)) context.addIssue({ code: 'custom', message: text, path: [...path] });
    }),
  ])
  .describe('`json`, or a JSON Schema that the answer has to follow: at most 65,536 characters, 32 deep, with references inside itself only');

/** What a step's input needs in memory. The plan of a task is made with this too, so that the step finds what was loaded for it. */
export function modelNeedOf(input: { readonly model: string; readonly options?: ModelOptions | undefined }, defaultContext = defaultNumCtx): ModelNeed {
  const parsed = parseByForm(input.model);
  return { name: 'name' in parsed ? parsed.name : input.model, numCtx: input.options?.num_ctx ?? defaultContext };
}

function parseByForm(text: string): ParsedModelName {
  const [registry = '', ...rest] = text.split('/');
  return parseModelName(text, rest.length === 2 ? [...defaultRegistries, registry.toLowerCase()] : defaultRegistries);
}

interface EveryQuestion {
  readonly model: string;
  readonly options?: ModelOptions | undefined;
  readonly format?: GenerateRequest['format'] | undefined;
  readonly think?: GenerateRequest['think'] | undefined;
}

export interface PromptQuestion extends EveryQuestion {
  readonly prompt: string;
  readonly system?: string | null | undefined;
  readonly images?: readonly Uint8Array[] | undefined;
}

export interface ChatQuestion extends EveryQuestion {
  readonly messages: readonly ChatMessage[];
}

export type Question = PromptQuestion | ChatQuestion;

/** One inference of a step: bounded by the step's limits, counted in its execution record, its progress told as the text grows. */
export async function infer(question: Question, context: StepContext): Promise<GenerateResult> {
  const need = modelNeedOf(question);
  const { num_ctx: _, ...options } = question.options ?? {};
  checkPromptSize(charactersOf(question), context);
  let pieces = 0;
  const startedAt = performance.now();
  const request = {
    model: need,
    ...(question.format === undefined ? {} : { format: question.format }),
    ...(question.think === undefined ? {} : { think: question.think }),
    options: present(options),
    outputBytesMax: context.limits.outputBytes,
    signal: context.signal,
    onText(piece: string) {
      pieces += 1;
      context.output('text', piece);
      context.progress({ phase: `${need.name} answers`, done: pieces });
    },
    onThinking() {
      pieces += 1;
      context.progress({ phase: `${need.name} thinks`, done: pieces });
    },
  };
  const result =
    'messages' in question
      ? await context.models.chat({ ...request, messages: question.messages })
      : await context.models.generate({
          ...request,
          prompt: question.prompt,
          ...(question.system ? { system: question.system } : {}),
          ...(question.images === undefined ? {} : { images: question.images }),
        });
  context.record({ ...usageOf(result), modelName: need.name, inferenceTimeSeconds: (performance.now() - startedAt) / 1000 });
  return result;
}

function charactersOf(question: Question): number {
  if ('messages' in question) return question.messages.reduce((sum, { content }) => sum + content.length, 0);
  return question.prompt.length + (question.system?.length ?? 0);
}

/** @throws {StepFailure} `limit_exceeded` when a prompt has more characters than this installation lets a model read */
export function checkPromptSize(characters: number, { limits }: StepContext): void {
  if (characters <= limits.promptChars) return;
  throw new StepFailure(failureCodes.limitExceeded, `the prompt has ${characters} characters, at most ${limits.promptChars} are allowed`, {
    retryable: false,
    details: { limit: 'prompt_chars', characters, max: limits.promptChars },
  });
}

/** Adds to the execution record which model it was, by its digest, and what it takes in memory; nothing when the server does not say. */
export async function recordModel(name: string, context: StepContext): Promise<void> {
  const loaded = await context.models.loaded(context.signal).catch((error: unknown) => {
    context.signal.throwIfAborted();
    // The answer is there; a server that goes away after it does not undo the step.
    if (error instanceof StepFailure) return [];
    throw error;
  });
  const model = loaded.find((each) => sameModel(each.name, name));
  if (model !== undefined) context.record({ modelDigest: model.digest, memoryUsedGb: model.memoryBytes / 1e9 });
}

/** Failure codes of a model step that another attempt cannot change. */
export const modelStepNonRetryable: readonly string[] = [
  failureCodes.invalidInput,
  failureCodes.modelNotFound,
  failureCodes.modelDigestMismatch,
  failureCodes.limitExceeded,
  failureCodes.modelLacksVision,
  failureCodes.modelLacksThinking,
  failureCodes.modelLacksCompletion,
  failureCodes.modelLacksEmbedding,
];

function usageOf(result: GenerateResult): Usage {
  const metrics: JsonObject = {
    inferences: 1,
    prompt_tokens: result.promptTokens,
    output_tokens: result.outputTokens,
    total_duration_ms: result.totalMs,
    load_duration_ms: result.loadMs,
    prompt_eval_duration_ms: result.promptMs,
    eval_duration_ms: result.outputMs,
  };
  return { metrics };
}

/** Without the fields that are undefined, which `exactOptionalPropertyTypes` tells from absent ones. */
function present(options: Omit<ModelOptions, 'num_ctx'>): NonNullable<GenerateRequest['options']> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}
