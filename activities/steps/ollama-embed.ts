import { z } from 'zod';
import { exceeded } from '../allowed-files.js';
import { defineStep, outputBytesMax } from './define-step.js';
import { checkPin, checkPromptSize, ModelName, ModelOptions, modelNeedOf, modelStepNonRetryable, Prompt, recordModel } from './model-options.js';

const MINUTE_MS = 60_000;
/** More are refused when the task is submitted; `limits.embed_inputs` says what this installation allows. */
const inputsMax = 10_000;
/** Texts of one request. A cancel and the output's limit are looked at between requests. */
const batchSize = 32;

export const ollamaEmbed = defineStep({
  type: 'ollama_embed',
  summary: 'Turn texts into vectors with a local model.',
  input: z.strictObject({
    model: ModelName,
    input: z.union([Prompt, z.array(Prompt).min(1).max(inputsMax)]).describe('One text, or a list of texts'),
    dimensions: z.int().min(1).max(65_536).optional().describe('Length of the vectors, for models whose vectors may be cut; default: as the model gives them'),
    options: ModelOptions.pick({ num_ctx: true }).optional().describe('`num_ctx` alone: the context with which the model is loaded'),
  }),
  output: z.object({
    embeddings: z.array(z.array(z.number())).describe('One vector of unit length for each text, in the order of the input'),
    dimensions: z.int().describe('Length of each vector'),
    count: z.int().describe('Number of vectors'),
    model: z.string().describe('The model that gave them'),
    prompt_tokens: z.int().describe('Tokens read, all texts together'),
  }),
  policy: { pool: 'model', startToCloseMs: 20 * MINUTE_MS, attempts: 3, nonRetryable: modelStepNonRetryable },
  example: '- { type: ollama_embed, model: "nomic-embed-text", input: ["first text", "second text"] }',
  async run({ model, input, dimensions, options }, context) {
    const texts = typeof input === 'string' ? [input] : input;
    const { limits, signal } = context;
    if (texts.length > limits.embedInputs)
      throw exceeded('embed_inputs', `${texts.length} texts are given, at most ${limits.embedInputs} may be embedded by one step`);
    for (const text of texts) checkPromptSize(text.length, context);
    const need = modelNeedOf({ model, options });
    await checkPin(need, context);
    const bytesMax = Math.min(outputBytesMax, limits.outputBytes);
    const embeddings: (readonly number[])[] = [];
    let promptTokens = 0;
    let bytes = 0;
    for (let at = 0; at < texts.length; at += batchSize) {
      const startedAt = performance.now();
      const batch = texts.slice(at, at + batchSize);
      const result = await context.models.embed({ model: need, input: batch, ...(dimensions === undefined ? {} : { dimensions }), signal });
      context.record({
        modelName: need.name,
        inferenceTimeSeconds: (performance.now() - startedAt) / 1000,
        metrics: {
          inferences: 1,
          embeddings: batch.length,
          prompt_tokens: result.promptTokens,
          total_duration_ms: result.totalMs,
          load_duration_ms: result.loadMs,
        },
      });
      promptTokens += result.promptTokens;
      embeddings.push(...result.embeddings);
      bytes += Buffer.byteLength(JSON.stringify(result.embeddings));
      checkSize(bytes, embeddings.length, texts.length, embeddings[0]?.length ?? 0, bytesMax);
      context.progress({ phase: `${need.name} embeds`, done: embeddings.length, total: texts.length });
    }
    await recordModel(model, context);
    return {
      embeddings: embeddings.map((vector) => [...vector]),
      dimensions: embeddings[0]?.length ?? 0,
      count: embeddings.length,
      model: need.name,
      prompt_tokens: promptTokens,
    };
  },
});

/** What the first vectors take tells what all of them will, so that a step that cannot be kept ends after its first request. */
function checkSize(bytes: number, done: number, count: number, dimensions: number, bytesMax: number): void {
  const perVector = bytes / done;
  if (perVector * count <= bytesMax) return;
  const fitting = Math.max(0, Math.floor(bytesMax / perVector));
  throw exceeded(
    'output_bytes',
    `${count} vectors of ${dimensions} numbers take about ${Math.ceil(perVector * count)} bytes, at most ${bytesMax} are kept: about ${fitting} texts fit one step; give fewer, or ask for fewer dimensions`,
  );
}
