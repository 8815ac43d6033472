import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { steps } from '../../../activities/steps/index.js';
import type { JsonObject } from '../../../contract/json.js';
import { faultsOf, messages, parsed, planOf } from './test-steps.js';

const parameter = 'parameters:\n  - { name: given, type: object, required: true }\n';
const template = (step: string, parameters = '') => `name: t\n${parameters}steps:\n  - { type: read_files, files: ["a.png"] }\n  - { ${step} }\n`;
const ask = 'type: ollama_generate, model: m, prompt: p';
const inputOf = (step: string) => planOf(parsed(template(step), steps), {}).steps[1];

describe('a JSON Schema in `format`', () => {
  test('comes from a parameter as well as from the template', () => {
    const schema = { type: 'object', properties: { stars: { type: 'integer' } } };
    const plan = planOf(parsed(template(`${ask}, format: "{{ given }}"`, parameter), steps), { given: schema });
    expect(plan.steps[1]?.input['format']).toEqual(schema);
    expect(inputOf(`${ask}, format: ${JSON.stringify(schema)}, repair_attempts: 3`)?.input).toMatchObject({ format: schema, repair_attempts: 3 });
  });

  test.each<[string, JsonObject, string]>([
    ['is broken', { properties: { a: { type: 'text' } } }, 'type'],
    ['names another machine', { $ref: 'https://evil.example/x' }, 'place in this schema'],
    ['has a pattern that is none', { pattern: '(' }, 'regular expression'],
    ['is too large', { description: 'x'.repeat(70_000) }, '65536 characters'],
  ])('that %s is refused when the task is submitted, at the parameter it came from [bad-45]', (_, given, text) => {
    const faults = faultsOf(parsed(template(`${ask}, format: "{{ given }}"`, parameter), steps), { given });
    expect(faults).toEqual([expect.objectContaining({ path: 'parameters.given', message: expect.stringContaining(text) })]);
  });

  test('that is broken in the template itself is a fault of the template, with its place', () => {
    expect(messages(template(`${ask}, format: { properties: { a: { $ref: "file:///etc/passwd" } } }`), steps)).toEqual([
      expect.stringMatching(/^test\.yaml:4:.*place in this schema/),
    ]);
  });

  test('is checked later where it names what an earlier step gives', () => {
    expect(inputOf(`${ask}, format: { enum: ["{{ steps.read_files.files }}"] }`)?.deferred).toHaveLength(1);
  });
});

describe('a chat, images and embeddings', () => {
  test('take what earlier steps gave, whole and typed', () => {
    expect(inputOf(`${ask}, images: "{{ steps.read_files.files }}"`)?.deferred).toEqual([{ path: ['images'], template: '{{ steps.read_files.files }}' }]);
    expect(inputOf('type: ollama_chat, model: m, messages: "{{ steps.read_files.files }}"')?.deferred).toHaveLength(1);
    expect(inputOf('type: ollama_embed, model: m, input: "{{ steps.read_files.files }}"')?.deferred).toHaveLength(1);
  });

  test('have the context in their plan with which their model is loaded', () => {
    for (const step of ['type: ollama_chat, model: m, messages: [{ role: user, content: x }]', 'type: ollama_embed, model: m, input: x'])
      expect(inputOf(step)).toMatchObject({
        pool: 'model',
        model: { name: 'm:latest', numCtx: 4096 },
        input: { model: 'm:latest', options: { num_ctx: 4096 } },
      });
  });

  test.each([
    ['a blank prompt', 'type: ollama_generate, model: m, prompt: " "', 'blank'],
    ['keep_alive', `${ask}, keep_alive: -1`, 'keep_alive'],
    ['num_gpu', `${ask}, options: { num_gpu: 99 }`, 'num_gpu'],
    ['a context of a billion tokens', `${ask}, options: { num_ctx: 1000000000 }`, '1048576'],
    ['endless output', `${ask}, options: { num_predict: -1 }`, 'at least 1'],
    ['raw', `${ask}, raw: true`, 'raw'],
    ['another host', `${ask}, host: "http://evil.example"`, 'host'],
    ['seven repairs', `${ask}, format: json, repair_attempts: 7`, 'at most 5'],
    ['a role that there is not', 'type: ollama_chat, model: m, messages: [{ role: tool, content: x }]', 'role'],
    ['truncate', 'type: ollama_embed, model: m, input: x, truncate: true', 'truncate'],
  ])('%s is a fault with its place [bad-42] [bad-43]', (_, step, text) => {
    expect(messages(template(step), steps)).toEqual([expect.stringContaining(text)]);
  });

  test('an output that is not there is told with those that are', () => {
    const text = `name: t\nsteps:\n  - { type: ollama_chat, model: m, messages: [{ role: user, content: x }] }\n  - { type: format_output, format: text, data: "{{ previous.answer }}" }\n`;
    expect(messages(text, steps)[0]).toContain('it has text, model, prompt_tokens, output_tokens, finish, thinking, json, repairs, message');
  });
});

const page = readFileSync(fileURLToPath(new URL('../../../docs/output.md', import.meta.url)), 'utf8');
test.each([...page.matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, example]) => [example ?? '']))('the example of docs/output.md is valid:\n%s', (example) => {
  const parameters = ['topic', 'question'].map((name) => `  - { name: ${name}, type: string, required: true }\n`).join('');
  const text = example.startsWith('name:') ? example : `name: example\nparameters:\n${parameters}steps:\n${example.replace(/^/gm, '  ')}\n`;
  expect(messages(text, steps)).toEqual([]);
});
