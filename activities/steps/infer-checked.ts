import { z } from 'zod';
import { failureCodes, StepFailure } from '../../contract/failure.js';
import type { JsonValue } from '../../contract/json.js';
import type { GenerateResult } from '../backends/backend.js';
import { checkAnswer } from './check-answer.js';
import type { StepContext } from './define-step.js';
import { infer, type Question } from './model-options.js';

/** Code of the failure when a model did not keep to the format that was asked for, after all repairs. */
export const invalidModelAnswer = 'invalid_model_answer';

const repairAttemptsDefault = 1;
/** Of a faulty answer so much is shown to the model again; one that was cut off may be as long as the context. */
const shownCharsMax = 4_000;
/** Of the last faulty answer so much stands in the failure. */
const headCharsMax = 500;

export const RepairAttempts = z
  .int()
  .min(0)
  .max(5)
  .optional()
  .describe(
    `With a format: how often the model is asked again, with its answer and the faults, when the answer does not keep to it; default ${repairAttemptsDefault}`,
  );

/** Fields that the output of every step with an answer has. */
export const answerFields = {
  text: z.string().describe('The answer as the model gave it'),
  model: z.string().describe('The model that answered'),
  prompt_tokens: z.int().describe('Tokens read, all inferences of the step together'),
  output_tokens: z.int().describe('Tokens given, all inferences of the step together'),
  finish: z.enum(['stop', 'length']).describe('`length`: the answer was cut off by num_predict or the context'),
  thinking: z.string().optional().describe('What the model thought before it answered, where it tells that apart'),
  json: z.unknown().optional().describe('The parsed answer, when a format was given; it keeps to the schema'),
  repairs: z.int().optional().describe('How often the model was asked again for an answer that keeps to the format'),
};

/** An answer with what all its inferences took. */
export interface CheckedInference {
  readonly result: GenerateResult;
  /** the parsed answer; only with a format */
  readonly json?: JsonValue;
  /** inferences after the first; 0 without a format */
  readonly repairs: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
}

/**
 * Asks a model, and again with the list of faults while its answer does not keep to the format, within the same step.
 * @param repairAttempts 0 to 5
 * @throws {StepFailure} `invalid_model_answer`, retryable, with the faults and the head of the last answer, when all attempts are used up
 */
export async function inferChecked(question: Question, repairAttempts: number | undefined, context: StepContext): Promise<CheckedInference> {
  const { format } = question;
  const attempts = repairAttempts ?? repairAttemptsDefault;
  let result = await infer(question, context);
  let [promptTokens, outputTokens] = [result.promptTokens, result.outputTokens];
  if (format === undefined) return { result, repairs: 0, promptTokens, outputTokens };
  for (let repairs = 0; ; repairs += 1) {
    const checked = checkAnswer(result.text, format, result.finish === 'length');
    if ('json' in checked) return { result, json: checked.json, repairs, promptTokens, outputTokens };
    if (repairs === attempts) throw notKept(result, checked.faults, repairs);
    context.progress({ phase: 'asks again: the answer does not keep to the format', done: repairs + 1, total: attempts });
    try {
      result = await infer(repairOf(question, result.text, checked.faults), context);
    } catch (error) {
      // A question with its faulty answer may be too long where the question alone was not.
      if (error instanceof StepFailure && error.code === failureCodes.limitExceeded) throw notKept(result, checked.faults, repairs, error);
      throw error;
    }
    promptTokens += result.promptTokens;
    outputTokens += result.outputTokens;
  }
}

/** The fields of {@link answerFields} for one answer. */
export function answerOf(model: string, formatted: boolean, { result, json, repairs, promptTokens, outputTokens }: CheckedInference) {
  return {
    text: result.text,
    model,
    prompt_tokens: promptTokens,
    output_tokens: outputTokens,
    finish: result.finish,
    ...(result.thinking === undefined ? {} : { thinking: result.thinking }),
    ...(formatted ? { json, repairs } : {}),
  };
}

/** The question again, with what was wrong, and the schema, which a model is otherwise held to but never shown. The answer is data, whatever it says. */
function repairOf(question: Question, answer: string, faults: readonly string[]): Question {
  const shown = answer.length > shownCharsMax ? `${answer.slice(0, shownCharsMax)}\n[the rest is left out]` : answer;
  const list = faults.map((fault) => `- ${fault}`).join('\n');
  const schema = typeof question.format === 'object' ? JSON.stringify(question.format) : '';
  const kept = schema === '' || schema.length > shownCharsMax ? '' : ` that keeps to this JSON Schema:\n${schema}\n`;
  const request = `Answer again, with nothing but JSON${kept}`;
  if ('messages' in question) {
    const more = [
      { role: 'assistant' as const, content: shown },
      { role: 'user' as const, content: `Your answer has these faults:\n${list}\n\n${request}` },
    ];
    return { ...question, messages: [...question.messages, ...more] };
  }
  return { ...question, prompt: `${question.prompt}\n\nYour answer before:\n<<<ANSWER\n${shown}\nANSWER\n\nIt has these faults:\n${list}\n\n${request}` };
}

function notKept(result: GenerateResult, faults: readonly string[], repairs: number, cause?: StepFailure): StepFailure {
  const asked = repairs === 0 ? '' : `, also when asked again (${repairs})`;
  const why = cause === undefined ? '' : `; asking again was not possible: ${cause.message}`;
  return new StepFailure(invalidModelAnswer, `the model's answer does not keep to the format${asked}: ${faults.slice(0, 3).join('; ')}${why}`, {
    retryable: true,
    details: { faults: [...faults], answer: result.text.slice(0, headCharsMax), finish: result.finish, output_tokens: result.outputTokens, repairs },
    cause,
  });
}
