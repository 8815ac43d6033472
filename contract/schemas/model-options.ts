import { z } from 'zod';

/** Context length in tokens of a step that names none. */
export const defaultNumCtx = 4096;

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

/** What a configuration sets for a model; a step's own fields stand above it. */
export const ModelProfile = z.strictObject({
  options: ModelOptions.optional(),
  system: z.string().min(1).max(100_000).optional().describe('Instructions for steps that give none'),
});
export type ModelProfile = z.output<typeof ModelProfile>;
