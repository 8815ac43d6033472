import { expect, test } from 'vitest';
import { parse } from 'yaml';
import type { z } from 'zod';
import { stepByType, steps } from '../../../activities/steps/index.js';

test.each(steps.map((step) => [step.type, step] as const))('the example of %s is a valid step', (type, step) => {
  const examples = parse(step.example) as Record<string, unknown>[];
  expect(examples).toHaveLength(1);
  const { type: written, ...input } = examples[0] as Record<string, unknown>;
  expect(written).toBe(type);
  expect(step.input.safeParse(input)).toMatchObject({ success: true });
});

test('a step type is found by its name, and inherited names are none', () => {
  expect(stepByType('git_clone')?.type).toBe('git_clone');
  expect(stepByType('constructor')).toBeUndefined();
});

test.each([
  { script: '' },
  { script: 'x', args: ['a\0b'] },
  { script: 'x', env: { 'A=B': '1' } },
  { script: 'x', env: { A: '\0' } },
  { script: 'x', interpreter: '/bin/sh' },
  { script: 'x', interpreter: '-c' },
  { script: 'x', interpreter: 'sh -c' },
  { script: 'x', shell: true },
  { script: 'x'.repeat(5000) },
])('execute_script refuses %j [bad-25]', (input) => {
  expect(stepByType('execute_script')?.input.safeParse(input).success).toBe(false);
}); // prettier-ignore

test.each(['../x', '/x', 'a/../../x', 'a\0b', '', '.', 'x/', `${'n'.repeat(256)}`, 'a/..'])('store_result refuses the path %j [TPL-10]', (path) => {
  expect(stepByType('store_result')?.input.safeParse({ path }).success).toBe(false);
});

test.each(steps.map((step) => [step.type, step] as const))('every field of %s says what it is, for the docs and forms made from it', (_, step) => {
  const undescribed = (schema: z.ZodObject) => Object.entries(schema.shape).flatMap(([name, field]) => (describedAs(field) ? [] : [name]));
  expect({ input: undescribed(step.input), output: undescribed(step.output) }).toEqual({ input: [], output: [] });
});

/** The description of a field, which may stand inside what makes it optional. */
function describedAs(field: unknown): string | undefined {
  const type = field as z.ZodType & { def: { innerType?: unknown } };
  return type.description ?? (type.def.innerType === undefined ? undefined : describedAs(type.def.innerType));
}
