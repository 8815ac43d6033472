import { z } from 'zod';
import { failureCodes, StepFailure } from '../../contract/failure.js';
import type { JsonObject, JsonValue } from '../../contract/json.js';
import type { Usage } from '../../contract/line.js';
import { defaultRegistries, modelNameCharsMax, type ParsedModelName, parseModelName, sameModel } from '../../contract/model-name.js';
import type { ModelNeed } from '../../contract/queues.js';
import { JsonObjectSchema } from '../../contract/schemas/json-value.js';
import type { GenerateRequest, GenerateResult } from '../backends/backend.js';
import type { StepContext } from './define-step.js';

/** Context length in tokens of a step that names none. */
export const defaultNumCtx = 4096;
export const promptCharsMax = 1_000_000;

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

export const Prompt = z
  .string()
  .min(1)
  .max(promptCharsMax)
  .refine((text) => !text.includes('\0'), 'may not contain the character NUL');

/**
 * Options of a request, with Ollama's names. What is not here is refused: `keep_alive` belongs to the host, `num_gpu` and its like would load
 * the model again, `raw` and `images` are not supported. `num_ctx` decides with which context the model is loaded.
 */
export const ModelOptions = z.strictObject({
  num_ctx: z
    .int()
    .min(256)
    .max(1_048_576)
    .optional()
    .describe(`Context length in tokens; default ${defaultNumCtx}. Steps with different values load the model anew.`),
  num_predict: z.int().min(1).max(131_072).optional().describe('Most tokens of the answer; default: as many as fit the context'),
  temperature: z.number().min(0).max(2).optional(),
  top_p: z.number().min(0).max(1).optional(),
  top_k: z.int().min(0).max(1000).optional(),
  min_p: z.number().min(0).max(1).optional(),
  seed: z.int().min(0).max(2_147_483_647).optional(),
  stop: z.array(z.string().min(1).max(200)).max(16).optional(),
  repeat_penalty: z.number().min(0.1).max(10).optional(),
  repeat_last_n: z.int().min(0).max(1_048_576).optional(),
  presence_penalty: z.number().min(-2).max(2).optional(),
  frequency_penalty: z.number().min(-2).max(2).optional(),
});
export type ModelOptions = z.output<typeof ModelOptions>;

const formatCharsMax = 65_536;

export const AnswerFormat = z
  .union([
    z.literal('json'),
    JsonObjectSchema.refine((schema) => JSON.stringify(schema).length <= formatCharsMax, `a JSON Schema may have at most ${formatCharsMax} characters`),
  ])
  .describe('`json` or a JSON Schema that the answer has to follow');

/** What a step's input needs in memory. The plan of a task is made with this too, so that the step finds what was loaded for it. */
export function modelNeedOf(input: { readonly model: string; readonly options?: ModelOptions | undefined }, defaultContext = defaultNumCtx): ModelNeed {
  const parsed = parseByForm(input.model);
  return { name: 'name' in parsed ? parsed.name : input.model, numCtx: input.options?.num_ctx ?? defaultContext };
}

function parseByForm(text: string): ParsedModelName {
  const [registry = '', ...rest] = text.split('/');
  return parseModelName(text, rest.length === 2 ? [...defaultRegistries, registry.toLowerCase()] : defaultRegistries);
}

export interface Question {
  readonly model: string;
  readonly prompt: string;
  readonly system?: string | null | undefined;
  readonly options?: ModelOptions | undefined;
  readonly format?: GenerateRequest['format'] | undefined;
}

/** One inference of a step: bounded by the step's limits, counted in its execution record, its progress told as the text grows. */
export async function infer(question: Question, context: StepContext): Promise<GenerateResult> {
  const need = modelNeedOf(question);
  const { num_ctx: _, ...options } = question.options ?? {};
  let pieces = 0;
  const startedAt = performance.now();
  const result = await context.models.generate({
    model: need,
    prompt: question.prompt,
    ...(question.system ? { system: question.system } : {}),
    ...(question.format === undefined ? {} : { format: question.format }),
    options: present(options),
    outputBytesMax: context.limits.outputBytes,
    signal: context.signal,
    onText() {
      pieces += 1;
      context.progress({ phase: `${need.name} answers`, done: pieces });
    },
  });
  context.record({ ...usageOf(result), modelName: need.name, inferenceTimeSeconds: (performance.now() - startedAt) / 1000 });
  return result;
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

/**
 * The JSON of an answer that was asked for with a format.
 * @throws {StepFailure} `invalid_model_answer`, retryable, when it is none, as an answer that was cut off
 */
export function answerJson(result: GenerateResult): JsonValue {
  try {
    return JSON.parse(result.text) as JsonValue;
  } catch (cause) {
    const why = result.finish === 'length' ? 'it was cut off by its token limit' : 'it does not parse';
    throw new StepFailure(invalidModelAnswer, `the model's answer is not JSON: ${why}`, {
      retryable: true,
      details: { finish: result.finish, output_tokens: result.outputTokens },
      cause,
    });
  }
}

/** Code of the failure when a model did not keep to the format that was asked for. */
export const invalidModelAnswer = 'invalid_model_answer';

/** Failure codes of a model step that another attempt cannot change. */
export const modelStepNonRetryable: readonly string[] = [
  failureCodes.invalidInput,
  failureCodes.modelNotFound,
  failureCodes.modelDigestMismatch,
  failureCodes.limitExceeded,
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
