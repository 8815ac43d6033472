import { z } from 'zod';
import { defineStep } from './define-step.js';
import { Images, loadImages } from './images.js';
import { answerFields, answerOf, inferChecked, RepairAttempts } from './infer-checked.js';
import { AnswerFormat, ModelName, ModelOptions, modelNeedOf, modelStepNonRetryable, Prompt, PromptText, recordModel, Think } from './model-options.js';

const MINUTE_MS = 60_000;

export const ollamaGenerate = defineStep({
  type: 'ollama_generate',
  summary: 'Ask a local model, and get its text and its token counts, or JSON that keeps to a schema.',
  input: z.strictObject({
    model: ModelName,
    prompt: Prompt.describe('What the model is asked'),
    system: PromptText.nullish().describe('Instructions that come before the prompt'),
    images: Images.optional(),
    options: ModelOptions.optional().describe('Options of the request, with the names that Ollama uses'),
    format: AnswerFormat.optional(),
    repair_attempts: RepairAttempts,
    think: Think.optional(),
  }),
  output: z.object(answerFields),
  policy: { pool: 'model', startToCloseMs: 20 * MINUTE_MS, attempts: 3, nonRetryable: modelStepNonRetryable },
  example: '- { type: ollama_generate, model: "llama3.2", prompt: "Explain {{topic}} in two sentences.", options: { temperature: 0.2 } }',
  async run({ images, repair_attempts, ...question }, context) {
    const loaded = images === undefined ? undefined : await loadImages(images, context);
    const answer = await inferChecked({ ...question, images: loaded }, repair_attempts, context);
    await recordModel(question.model, context);
    return answerOf(modelNeedOf(question).name, question.format !== undefined, answer);
  },
});
