import { z } from 'zod';
import type { JsonObject } from '../../contract/json.js';

const json = z.record(z.string(), z.json());

const FakedFailure = z.strictObject({
  code: z.string().min(1).max(100).describe('Failure code, such as timeout or model_not_found.'),
  message: z.string().max(1000).default('faked failure'),
  retryable: z.boolean().default(true).describe('Whether another attempt could help; only then is there one.'),
  times: z.int().min(1).max(100).optional().describe('How many attempts fail before the output comes; all of them when left out.'),
});
export type FakedFailure = z.infer<typeof FakedFailure>;

const FakedStep = z
  .strictObject({ output: json.optional().describe('What the step gives; checked against the output of its type.'), fail: FakedFailure.optional() })
  .refine(({ output, fail }) => output !== undefined || fail !== undefined, 'output or fail')
  .refine(({ output, fail }) => fail?.times === undefined || output !== undefined, 'an output for after the failures that "times" counts')
  .refine(({ output, fail }) => output === undefined || fail === undefined || fail.times !== undefined, 'no output beside a failure without "times"');
export type FakedStep = z.infer<typeof FakedStep>;

const ExpectedStep = z.strictObject({
  input: json
    .optional()
    .describe('Fields of the rendered input; what is not named is not looked at. {$contains: ...} and {$absent: true} may stand for a value.'),
  attempts: z.int().min(1).max(100).optional().describe('How many attempts there are.'),
});

const Expectation = z
  .strictObject({
    steps: z.record(z.string(), ExpectedStep).optional().describe('By step id; each has to run.'),
    skipped: z.array(z.string()).optional().describe('Exactly the steps that are skipped; none when left out.'),
    status: z.enum(['completed', 'failed']).optional().describe('How the task ends; completed when left out, failed when an error is named.'),
    error: z
      .strictObject({ code: z.string().optional(), step: z.string().optional(), message: z.string().optional().describe('A part of the message.') })
      .optional(),
    result: json.optional().describe('Fields of the result: the last step\'s output, and under "steps" the output of each.'),
    faults: z.array(z.string().min(1)).min(1).optional().describe('The submission is refused with these faults; a part of the message of each.'),
  })
  .refine(
    ({ faults, ...others }) => faults === undefined || Object.values(others).every((value) => value === undefined),
    'nothing beside "faults": a submission that is refused runs no step',
  )
  .refine(({ status, error }) => error === undefined || status !== 'completed', 'no error where the status is completed')
  .refine(({ status, error, result }) => result === undefined || (status !== 'failed' && error === undefined), 'no result where the task fails');
export type Expectation = z.infer<typeof Expectation>;

const TestCase = z.strictObject({
  name: z.string().min(1).max(200),
  parameters: json.default({}),
  steps: z.record(z.string(), FakedStep).default({}).describe('What each step does, by its id; nothing is run for real.'),
  expect: Expectation.default({}),
});
export type TestCase = z.infer<typeof TestCase>;

/** A file `<name>.test.yaml` beside a template. */
export const TestFile = z.strictObject({
  template: z.string().min(1).max(100).describe('Name of the template that is tested.'),
  cases: z.array(TestCase).min(1).max(200),
});

/** The text of `test-schema.json`: the JSON Schema of a test file for editors. A test fails when it is stale. */
export function testSchemaText(): string {
  const schema = z.toJSONSchema(TestFile, { io: 'input', target: 'draft-7' }) as unknown as JsonObject;
  return `${JSON.stringify({ ...schema, title: 'Tests of an AI Task Orchestra template' }, null, 2)}\n`;
}
