import { z } from 'zod';
import type { ChatMessage } from '../backends/backend.js';
import { defineStep, type StepContext } from './define-step.js';
import { Images, loadImages } from './images.js';
import { answerFields, answerOf, inferChecked, RepairAttempts } from './infer-checked.js';
import { AnswerFormat, ModelName, ModelOptions, modelNeedOf, modelStepNonRetryable, PromptText, recordModel, Think } from './model-options.js';

const MINUTE_MS = 60_000;
const messagesMax = 1_000;

const Message = z.strictObject({
  role: z.enum(['system', 'user', 'assistant']).describe('Who says it'),
  content: PromptText.describe('What is said'),
  images: Images.optional(),
});

export const ollamaChat = defineStep({
  type: 'ollama_chat',
  summary: 'Go on with a conversation: a local model answers the last of its messages.',
  input: z.strictObject({
    model: ModelName,
    messages: z
      .array(Message)
      .min(1)
      .max(messagesMax)
      .refine((messages) => messages.some(({ role, content }) => role === 'user' && content.trim() !== ''), 'need a message of the user that is not blank')
      .describe('The conversation, oldest message first'),
    options: ModelOptions.optional().describe('Options of the request, with the names that Ollama uses'),
    format: AnswerFormat.optional(),
    repair_attempts: RepairAttempts,
    think: Think.optional(),
  }),
  output: z.object({
    ...answerFields,
    message: z.object({ role: z.literal('assistant'), content: z.string() }).describe('The answer as a message, to go on with'),
  }),
  policy: { pool: 'model', startToCloseMs: 20 * MINUTE_MS, attempts: 3, nonRetryable: modelStepNonRetryable },
  example:
    '- { type: ollama_chat, model: "llama3.2", messages: [{ role: system, content: "Answer in one sentence." }, { role: user, content: "{{question}}" }] }',
  async run({ messages, repair_attempts, ...question }, context) {
    const answer = await inferChecked({ ...question, messages: await withImages(messages, context) }, repair_attempts, context);
    await recordModel(question.model, context);
    return {
      ...answerOf(modelNeedOf(question).name, question.format !== undefined, answer),
      message: { role: 'assistant' as const, content: answer.result.text },
    };
  },
});

/** All images are read and checked before the first inference; their number is that of the whole conversation. */
async function withImages(messages: readonly z.output<typeof Message>[], context: StepContext): Promise<ChatMessage[]> {
  const ready: ChatMessage[] = [];
  let count = 0;
  for (const { images, ...message } of messages) {
    const loaded = images === undefined ? [] : await loadImages(images, context, count);
    count += loaded.length;
    ready.push(loaded.length === 0 ? message : { ...message, images: loaded });
  }
  return ready;
}
