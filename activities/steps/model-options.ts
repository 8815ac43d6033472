import { z } from 'zod';
import { failureCodes, StepFailure } from '../../contract/failure.js';
import type { JsonObject } from '../../contract/json.js';
import type { Usage } from '../../contract/line.js';
import { defaultRegistries, modelNameCharsMax, type ParsedModelName, parseModelName, sameModel } from '../../contract/model-name.js';
import type { ModelNeed } from '../../contract/queues.js';
import { JsonObjectSchema } from '../../contract/schemas/json-value.js';
import { defaultNumCtx, ModelOptions } from '../../contract/schemas/model-options.js';
import type { ChatMessage, GenerateRequest, GenerateResult } from '../backends/backend.js';
import { schemaFaults } from './answer-schema.js';
import type { StepContext } from './define-step.js';

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
  .describe('A model as Ollama names it, such as llama3.1:8b, or a configured alias; with `@sha256:<64 hex>` behind it, exactly these weights');

export const PromptText = z
  .string()
  .max(promptCharsMax)
  .refine((text) => !text.includes('\0'), 'may not contain the character NUL');

export const Prompt = PromptText.min(1).refine((text) => text.trim() !== '', 'may not be blank');

export const Think = z
  .union([z.boolean(), z.enum(['low', 'medium', 'high'])])
  .describe('Whether, or how hard, the model thinks before it answers; default: as the model does by itself. Only for models that can.');

export const AnswerFormat = z
  .union([
    z.literal('json'),
    JsonObjectSchema.superRefine((schema, context) => {
      for (const { path, text } of schemaFaults(schema)) context.addIssue({ code: 'custom', message: text, path: [...path] });
    }),
  ])
  .describe('`json`, or a JSON Schema that the answer has to follow: at most 65,536 characters, 32 deep, with references inside itself only');

export { ModelOptions };

/** What a step's input needs in memory. The plan of a task is made with this too, so that the step finds what was loaded for it. */
export function modelNeedOf(input: { readonly model: string; readonly options?: ModelOptions | undefined }, defaultContext = defaultNumCtx): ModelNeed {
  const parsed = parseByForm(input.model);
  const numCtx = input.options?.num_ctx ?? defaultContext;
  if ('problem' in parsed) return { name: input.model, numCtx };
  return { name: parsed.name, numCtx, ...(parsed.digest === null ? {} : { digest: parsed.digest }) };
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
  await checkPin(need, context);
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

/**
 * Holds a pinned step to its weights: a tag can move to others, by a pull or by hand.
 * @throws {StepFailure} `model_digest_mismatch`, not retryable, when the model in memory has another digest
 */
export async function checkPin({ name, digest }: ModelNeed, context: StepContext): Promise<void> {
  if (digest === undefined) return;
  const found = (await context.models.loaded(context.signal)).find((each) => sameModel(each.name, name));
  if (found === undefined || bareDigest(found.digest) === bareDigest(digest)) return;
  throw new StepFailure(
    failureCodes.modelDigestMismatch,
    `${name} is pinned to ${digest}, and the one that is installed has sha256:${bareDigest(found.digest)}`,
    {
      retryable: false,
      details: { model: name, pinned: digest, installed: `sha256:${bareDigest(found.digest)}` },
    },
  );
}

/** Ollama tells digests without their algorithm. */
function bareDigest(digest: string): string {
  return digest.replace(/^sha256:/, '').toLowerCase();
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
