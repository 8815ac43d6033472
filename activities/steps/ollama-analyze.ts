import { z } from 'zod';
import { failureCodes, StepFailure } from '../../contract/failure.js';
import { defineStep } from './define-step.js';
import { infer, ModelName, ModelOptions, modelNeedOf, modelStepNonRetryable, Prompt, promptCharsMax, recordModel } from './model-options.js';

const MINUTE_MS = 60_000;
const defaultPrompt = 'Summarise the following file and point out what matters in it.';

/** What the step before has to give: the output of `read_files`. */
const Files = z.object({
  files: z.array(z.object({ path: z.string(), content: z.string(), size_bytes: z.number(), encoding: z.string() })),
});

export const ollamaAnalyze = defineStep({
  type: 'ollama_analyze',
  summary: 'Ask a local model about each file of the step before, one inference per file while the model stays loaded.',
  input: z.strictObject({
    model: ModelName,
    prompt: Prompt.optional().describe(`What to do with each file; default: "${defaultPrompt}"`),
    options: ModelOptions.optional(),
  }),
  output: z.object({
    model: z.string(),
    analyses: z.array(
      z.object({
        path: z.string(),
        text: z.string(),
        prompt_tokens: z.int(),
        output_tokens: z.int(),
        finish: z.enum(['stop', 'length']),
      }),
    ),
    text: z.string().describe('All analyses, each under the path of its file'),
    prompt_tokens: z.int(),
    output_tokens: z.int(),
  }),
  policy: { pool: 'model', startToCloseMs: 20 * MINUTE_MS, attempts: 3, nonRetryable: modelStepNonRetryable },
  example: '- { type: ollama_analyze, model: "llama3.2", prompt: "List the risks in this file." }',
  async run(input, context) {
    const files = filesOf(context.previous);
    const prompts = files.map((file) => ({ path: file.path, prompt: promptOf(input.prompt ?? defaultPrompt, file) }));
    const analyses = [];
    for (const [index, { path, prompt }] of prompts.entries()) {
      context.progress({ phase: `analyses ${path}`, done: index, total: prompts.length });
      const result = await infer({ model: input.model, prompt, options: input.options }, context);
      analyses.push({ path, text: result.text, prompt_tokens: result.promptTokens, output_tokens: result.outputTokens, finish: result.finish });
    }
    await recordModel(input.model, context);
    return {
      model: modelNeedOf(input).name,
      analyses,
      text: analyses.map(({ path, text }) => `## ${path}\n\n${text}`).join('\n\n'),
      prompt_tokens: sum(analyses.map((each) => each.prompt_tokens)),
      output_tokens: sum(analyses.map((each) => each.output_tokens)),
    };
  },
});

type File = z.output<typeof Files>['files'][number];

function filesOf(previous: Readonly<Record<string, unknown>> | null): readonly File[] {
  const parsed = Files.safeParse(previous);
  if (!parsed.success) throw invalid('ollama_analyze needs the files of the step before it: put a read_files step there');
  const { files } = parsed.data;
  if (files.length === 0) throw invalid('the step before gave no files to analyse');
  return files;
}

/** All prompts are made before the first inference, so that one bad file costs no time of the model. */
function promptOf(instruction: string, file: File): string {
  if (file.encoding === 'base64') throw invalid(`${file.path} is not text, and a model reads only text`);
  if (file.content.includes('\0')) throw invalid(`${file.path} contains the character NUL`);
  // The fence tells the model what is data; whatever a file says, its analysis is text and starts nothing.
  const prompt = `${instruction}\n\nFile: ${file.path}\n<<<FILE\n${file.content}\nFILE`;
  if (prompt.length > promptCharsMax)
    throw new StepFailure(failureCodes.limitExceeded, `${file.path} makes a prompt of ${prompt.length} characters, at most ${promptCharsMax} are possible`, {
      retryable: false,
    });
  return prompt;
}

function invalid(message: string): StepFailure {
  return new StepFailure(failureCodes.invalidInput, message, { retryable: false });
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}
