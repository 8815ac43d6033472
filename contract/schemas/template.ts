import { z } from 'zod';
import { onFailures } from '../plan.js';

/** How often and how fast to try again; every field stands for itself, what is absent comes from the next wider level. */
export const RetrySettings = z
  .strictObject({
    max_attempts: z.int().min(1).max(100).describe('Attempts in all, the first included.'),
    initial_interval_seconds: z.number().min(0).max(86_400).describe('Wait before the second attempt.'),
    backoff_coefficient: z.number().min(1).max(100).describe('Factor by which each wait is longer than the one before.'),
    max_interval_seconds: z.number().min(0).max(86_400).describe('Longest wait.'),
    non_retryable_errors: z.array(z.string().min(1).max(100)).max(50).describe('Error codes that end the step at once.'),
  })
  .partial();
export type RetrySettings = z.infer<typeof RetrySettings>;

export const parameterTypes = ['string', 'integer', 'number', 'boolean', 'array', 'object'] as const;

const ParameterName = z
  .string()
  .max(64)
  .regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'a parameter name starts with a letter or "_" and has only letters, digits and "_"');

/** One parameter as a template declares it. */
export const ParameterDeclaration = z.strictObject({
  name: ParameterName,
  type: z.enum(parameterTypes),
  required: z.boolean().default(false),
  default: z.json().optional().describe('Value when the caller gives none; not together with required.'),
  description: z.string().max(1000).optional(),
  enum: z
    .array(z.union([z.string(), z.number()]))
    .min(1)
    .max(100)
    .optional()
    .describe('The only values allowed (string, integer, number).'),
  min: z.number().optional().describe('Smallest number, fewest characters of a string, fewest items of an array.'),
  max: z.number().optional().describe('Largest number, most characters of a string, most items of an array.'),
  pattern: z.string().min(1).max(200).optional().describe('Regular expression that a string has to contain a match of; anchor it with ^ and $.'),
});
export type ParameterDeclaration = z.infer<typeof ParameterDeclaration>;

const stepId = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** What any step may have beside the fields of its type. */
export const stepSettings = {
  type: z.string().min(1).max(100).describe('Step type.'),
  id: z
    .string()
    .max(64)
    .regex(stepId, 'a step id starts with a letter or "_" and has only letters, digits and "_"')
    .optional()
    .describe('Name of the step in later expressions; its type when absent.'),
  when: z
    .union([z.string().min(1), z.boolean()])
    .optional()
    .describe('Expression; the step is skipped when it is false.'),
  retry: RetrySettings.optional(),
  timeout_seconds: z.number().positive().max(604_800).optional().describe('Longest running time of one attempt.'),
  on_failure: z.enum(onFailures).optional(),
};

/** A template's file as far as it does not depend on the step types. */
export const TemplateFile = z.strictObject({
  name: z
    .string()
    .max(100)
    .regex(/^[A-Za-z0-9][A-Za-z0-9_-]*$/, 'a template name has only letters, digits, "-" and "_"'),
  description: z.string().max(2000).default(''),
  parameters: z.array(ParameterDeclaration).max(100).default([]),
  retry: RetrySettings.optional().describe('For every step that does not say otherwise.'),
  steps: z.array(z.looseObject(stepSettings)).min(1, 'a template needs at least one step').max(100),
});
export type TemplateFile = z.infer<typeof TemplateFile>;
