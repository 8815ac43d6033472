import { z } from 'zod';
import { defineStep, type StepDefinition } from '../../../activities/steps/define-step.js';
import { compileTask, type CompileOptions } from '../../../templates/compile.js';
import { parseTemplate, type StepRegistry, type Template } from '../../../templates/parse-template.js';

const read = defineStep({
  type: 'read',
  summary: 'Reads.',
  input: z.object({ files: z.union([z.string(), z.array(z.string()).min(1)]), limit: z.int().min(1).max(10).optional() }),
  output: z.object({ text: z.string(), count: z.int() }),
  policy: { pool: 'general', startToCloseMs: 60_000, attempts: 3, nonRetryable: ['no_such_file'] },
  example: '- { type: read, files: ["a"] }',
  run: async () => ({ text: '', count: 0 }),
});

const ask = defineStep({
  type: 'ask',
  summary: 'Asks a model.',
  input: z.object({
    model: z.string().min(1),
    prompt: z.string().min(1),
    system: z.string().optional(),
    options: z.strictObject({ num_ctx: z.int().min(256).optional(), temperature: z.number().min(0).max(2).optional() }).optional(),
  }),
  output: z.looseObject({ text: z.string() }),
  policy: { pool: 'model', startToCloseMs: 120_000, attempts: 2 },
  example: '- { type: ask, model: m, prompt: p }',
  run: async () => ({ text: '' }),
});

const anything = defineStep({
  type: 'anything',
  summary: 'Takes any value.',
  input: z.object({ value: z.unknown(), list: z.array(z.unknown()).optional() }),
  output: z.object({ value: z.unknown() }),
  policy: { pool: 'general', startToCloseMs: 60_000, attempts: 3 },
  example: '- { type: anything, value: 1 }',
  run: async ({ value }) => ({ value }),
});

/** Step types of these tests only; nothing but the registry knows them [TPL-24]. */
export const testSteps: StepRegistry = [read, ask, anything] as unknown as readonly StepDefinition[];

export const deployment: CompileOptions['deployment'] = { numCtx: 4096, allowedRegistries: ['registry.ollama.ai', 'hf.co'], timeoutSecondsMax: 3600 };

export function parsed(text: string, registry: StepRegistry = testSteps): Template {
  const result = parseTemplate('test.yaml', text, registry);
  if ('faults' in result) throw new Error(result.faults.map((fault) => fault.message).join('\n'));
  return result.template;
}

export function messages(text: string, registry: StepRegistry = testSteps): string[] {
  const result = parseTemplate('test.yaml', text, registry);
  return 'faults' in result ? result.faults.map((fault) => fault.message) : [];
}

export function planOf(template: Template, parameters: unknown, options: Partial<CompileOptions> = {}) {
  const result = compileTask(template, parameters, { deployment, ...options });
  if ('faults' in result) throw new Error(result.faults.map((fault) => fault.message).join('\n'));
  return result.plan;
}

export function faultsOf(template: Template, parameters: unknown, options: Partial<CompileOptions> = {}) {
  const result = compileTask(template, parameters, { deployment, ...options });
  return 'faults' in result ? result.faults : [];
}
