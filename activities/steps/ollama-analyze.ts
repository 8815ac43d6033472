import { z } from 'zod';
import { failureCodes, StepFailure } from '../../contract/failure.js';
import { exceeded } from '../allowed-files.js';
import { defineStep } from './define-step.js';
import { infer, ModelName, ModelOptions, modelNeedOf, modelStepNonRetryable, Prompt, recordModel } from './model-options.js';

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
    options: ModelOptions.optional().describe('Options of each request, with the names that Ollama uses'),
  }),
  output: z.object({
    model: z.string().describe('The model that answered'),
    analyses: z
      .array(
        z.object({
          path: z.string().describe('The file'),
          text: z.string().describe('What the model said about it; text and nothing more, whatever the file asks for'),
          prompt_tokens: z.int().describe('Tokens read'),
          output_tokens: z.int().describe('Tokens given'),
          finish: z.enum(['stop', 'length']).describe('`length`: the answer was cut off by num_predict or the context'),
        }),
      )
      .describe('One analysis for each file, in their order'),
    text: z.string().describe('All analyses, each under the path of its file'),
    prompt_tokens: z.int().describe('Tokens read, all files together'),
    output_tokens: z.int().describe('Tokens given, all files together'),
  }),
  policy: { pool: 'model', startToCloseMs: 20 * MINUTE_MS, attempts: 3, nonRetryable: modelStepNonRetryable },
  example: '- { type: ollama_analyze, model: "llama3.2", prompt: "List the risks in this file." }',
  async run(input, context) {
    const files = filesOf(context.previous);
    const prompts = files.map((file) => ({ path: file.path, prompt: promptOf(input.prompt ?? defaultPrompt, file, context.limits.promptChars) }));
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
function promptOf(instruction: string, file: File, charsMax: number): string {
  if (file.encoding === 'base64') throw invalid(`${file.path} is not text, and a model reads only text`);
  if (file.content.includes('\0')) throw invalid(`${file.path} contains the character NUL`);
  // The fence tells the model what is data; whatever a file says, its analysis is text and starts nothing.
  const prompt = `${instruction}\n\nFile: ${file.path}\n<<<FILE\n${file.content}\nFILE`;
  if (prompt.length > charsMax) throw exceeded('prompt_chars', `${file.path} makes a prompt of ${prompt.length} characters, at most ${charsMax} are allowed`);
  return prompt;
}

function invalid(message: string): StepFailure {
  return new StepFailure(failureCodes.invalidInput, message, { retryable: false });
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}
