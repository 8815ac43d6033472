import { z } from 'zod';
import { defineStep } from './define-step.js';
import {
  AnswerFormat,
  answerJson,
  infer,
  ModelName,
  ModelOptions,
  modelNeedOf,
  modelStepNonRetryable,
  Prompt,
  promptCharsMax,
  recordModel,
} from './model-options.js';

const MINUTE_MS = 60_000;

export const ollamaGenerate = defineStep({
  type: 'ollama_generate',
  summary: 'Ask a local model, and get its text and its token counts.',
  input: z.strictObject({
    model: ModelName,
    prompt: Prompt,
    system: z.string().max(promptCharsMax).nullish().describe('Instructions that come before the prompt'),
    options: ModelOptions.optional(),
    format: AnswerFormat.optional(),
  }),
  output: z.object({
    text: z.string(),
    model: z.string(),
    prompt_tokens: z.int(),
    output_tokens: z.int(),
    finish: z.enum(['stop', 'length']).describe('`length`: the answer was cut off by num_predict or the context'),
    json: z.unknown().optional().describe('The parsed answer, when a format was given'),
  }),
  policy: { pool: 'model', startToCloseMs: 20 * MINUTE_MS, attempts: 3, nonRetryable: modelStepNonRetryable },
  example: '- { type: ollama_generate, model: "llama3.2", prompt: "Explain {{topic}} in two sentences.", options: { temperature: 0.2 } }',
  async run(input, context) {
    const result = await infer(input, context);
    await recordModel(input.model, context);
    return {
      text: result.text,
      model: modelNeedOf(input).name,
      prompt_tokens: result.promptTokens,
      output_tokens: result.outputTokens,
      finish: result.finish,
      ...(input.format === undefined ? {} : { json: answerJson(result) }),
    };
  },
});
