import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { packageRoot } from '../../../config.js';
import type { TemplateDetailView, TemplateListView, TemplateVerdictView } from '../../../contract/schemas/template-view.js';
import { type ApiUnderTest, apiUnderTest } from './api-under-test.js';

let api: ApiUnderTest;
beforeAll(async () => {
  api = await apiUnderTest();
});
afterAll(async () => api.stop());

async function get<Body>(url: string, key = api.keys.viewer): Promise<{ status: number; body: Body }> {
  const answer = await api.request(key, 'GET', `/api/v1${url}`);
  return { status: answer.status, body: (await answer.json()) as Body };
}
async function validate(yaml: string, more: object = {}): Promise<{ status: number; body: TemplateVerdictView & { code?: string } }> {
  const answer = await api.request(api.keys.viewer, 'POST', '/api/v1/templates/validate', { yaml, ...more });
  return { status: answer.status, body: (await answer.json()) as TemplateVerdictView & { code?: string } };
}

test('templates are listed by name with parameters, step types and where they come from [TPL-04]', async () => {
  const { body } = await get<TemplateListView>('/templates');
  const names = body.items.map(({ name }) => name);
  expect(names).toEqual(names.toSorted());
  expect(body.items.find(({ name }) => name === 'file-processing')).toMatchObject({
    description: 'Process files with AI analysis',
    source: 'built-in',
    step_types: ['read_files', 'ollama_analyze', 'format_output'],
    parameters: [{ name: 'input_files', type: 'array', required: true }, { name: 'analysis_model' }, { name: 'output_format' }],
    stale: null,
  });
});

test('one template is read with its schema, its form, its steps, an example and its file [TPL-04]', async () => {
  const { body } = await get<TemplateDetailView>('/templates/ollama-inference');
  expect(body).toMatchObject({
    name: 'ollama-inference',
    steps: [{ id: 'ollama_generate', type: 'ollama_generate', when: null, on_failure: 'retry' }],
    parameters_schema: { type: 'object', required: ['model', 'prompt'], additionalProperties: false },
    example_request: { template: 'ollama-inference', parameters: { model: 'llama3.2:1b' } },
  });
  expect(body.form.map(({ name, widget }) => [name, widget])).toEqual([
    ['model', 'model'],
    ['prompt', 'textarea'],
    ['system_prompt', 'textarea'],
  ]);
  expect(body.yaml).toBe(await readFile(path.join(packageRoot(), 'templates', 'ollama-inference.yaml'), 'utf8'));
  expect((await api.request(api.keys.ann, 'POST', '/api/v1/tasks', body.example_request)).status).toBe(201);
});

test.each(['nothing', 'Ollama-Inference', '../ollama-inference', '__proto__', 'constructor', `${'x'.repeat(1_000)}`])(
  'template %s is not found [TPL-04, bad-11]',
  async (name) => {
    for (const url of [`/templates/${encodeURIComponent(name)}`, `/templates/${encodeURIComponent(name)}/docs`]) {
      expect(await get(url)).toMatchObject({ status: 404, body: { code: 'unknown_template' } });
    }
  },
);

test('a mistyped name is answered with the one that was meant [TPL-04]', async () => {
  expect(await get('/templates/olama-inference')).toMatchObject({ body: { detail: 'There is no template of this name; did you mean "ollama-inference"?' } });
});

test('the page of a template is Markdown [TPL-20]', async () => {
  const answer = await api.request(api.keys.viewer, 'GET', '/api/v1/templates/git-script-execution/docs');
  expect(answer.headers.get('content-type')).toBe('text/markdown; charset=utf-8');
  const text = await answer.text();
  expect(text).toMatch(/^# git-script-execution\n/);
  for (const part of ['`repo_url`', '`script_path`', '`output_path`', 'git_clone', 'execute_script', 'store_result']) expect(text).toContain(part);
});

test('the schema for editors is the one in the repository [TPL-24]', async () => {
  expect((await get('/template-schema')).body).toEqual(JSON.parse(await readFile(path.join(packageRoot(), 'templates', 'schema.json'), 'utf8')));
});

describe('validate [TPL-19]', () => {
  test('a good template is told what it is, and nothing is stored', async () => {
    const { status, body } = await validate(
      'name: mine\nparameters:\n  - { name: who, type: string }\nsteps:\n  - { type: ollama_generate, model: "llama3.2", prompt: "Hello {{who}}" }\n',
    );
    expect(status).toBe(200);
    expect(body).toMatchObject({
      valid: true,
      faults: [],
      warnings: [],
      template: { name: 'mine', step_types: ['ollama_generate'], parameters: [{ name: 'who' }] },
    });
    expect(await get('/templates/mine')).toMatchObject({ status: 404 });
  });

  test('every fault is told at once with file, line, column and what is allowed [TPL-18]', async () => {
    const { body } = await validate(
      'name: mine\nsteps:\n  - { type: olama_generate }\n  - { type: ollama_generate, model: m, promt: x, prompt: "{{nobody}}" }\n',
      { file_name: 'mine.yaml' },
    );
    expect(body).toMatchObject({ valid: false, template: null });
    const messages = body.faults.map(({ message }) => message);
    expect(messages[0]).toMatch(/^mine\.yaml:3:\d+: .*unknown step type "olama_generate", did you mean "ollama_generate"/);
    expect(messages.some((message) => message.includes('"promt", did you mean "prompt"'))).toBe(true);
    expect(messages.some((message) => message.includes('"nobody" is not declared'))).toBe(true);
  });

  test.each([
    [
      'a bomb of aliases',
      `a: &a [x,x,x,x,x,x,x,x,x]\n${'bcdefghi'
        .split('')
        .map((name, index) => `${name}: &${name} [${`*${'abcdefgh'[index]},`.repeat(9)}]`)
        .join('\n')}`,
    ],
    ['a thousand brackets', `${'['.repeat(1_000)}${']'.repeat(1_000)}`],
    ['a tag that runs code', 'name: !!js/function "function(){}"'],
    ['two documents', 'name: a\n---\nname: b'],
    ['nothing', ''],
    ['a prototype', '__proto__: { polluted: true }\nname: x\nsteps: []'],
    ['a key twice', 'name: a\nname: b\nsteps: []'],
  ])('%s is a fault and nothing more [bad-21, bad-22]', async (_what, yaml) => {
    const { status, body } = await validate(yaml);
    expect(status).toBe(200);
    expect(body.valid).toBe(false);
    expect(body.faults.length).toBeGreaterThan(0);
  });

  test('no expression is evaluated, however it is written [bad-23]', async () => {
    const { body } = await validate(
      'name: x\nsteps:\n  - { type: ollama_generate, model: m, prompt: "{% for a in range(100000000) %}{% for b in range(100000000) %}x{% endfor %}{% endfor %}" }\n',
    );
    expect(body.valid).toBe(true);
  });

  test('a name that another template has is a warning, and a folder in the file name is refused', async () => {
    expect((await validate('name: ollama-inference\nsteps:\n  - { type: ollama_generate, model: m, prompt: x }\n')).body.warnings[0]).toContain(
      'is named "ollama-inference"',
    );
    expect(await validate('name: x', { file_name: '../x.yaml' })).toMatchObject({ status: 422, body: { code: 'invalid_request' } });
    expect(await validate('x'.repeat(300_000))).toMatchObject({ status: 422 });
  });
});

test('a template whose pattern never ends is told so, and does not hold up the process meanwhile [bad-45]', async () => {
  const endless = `name: x\nparameters:\n  - { name: a, type: string, pattern: "^(a+)+$", default: "${'a'.repeat(40)}b" }\nsteps:\n  - { type: read_files, files: [a] }`;
  let over = false;
  const verdict = api.services.validateTemplate(endless, 'x.yaml').finally(() => (over = true));
  let turns = 0;
  for (; !over; turns += 1) await new Promise((resolve) => setImmediate(resolve));
  expect((await verdict).faults.map(({ message }) => message)).toEqual([expect.stringContaining('takes too long')]);
  expect(turns).toBeGreaterThan(100);
  expect((await validate(endless)).body).toMatchObject({ valid: false, faults: [{ message: expect.stringContaining('takes too long') }] });
});

test('patterns of an installed template are kept to, in single tasks and in batches', async () => {
  const submit = (code: string) => ({ template: 'patterned', parameters: { code } });
  const refused = await api.request(api.keys.ann, 'POST', '/api/v1/tasks', submit('nope'));
  expect(await refused.json()).toMatchObject({ code: 'invalid_parameters', errors: [{ path: 'parameters.code', expected: 'text that matches ^[A-Z]{3}$' }] });
  const batch = await api.request(api.keys.ann, 'POST', '/api/v1/tasks/batch', { tasks: [submit('ABC'), submit('abc'), submit('XYZ')] });
  expect(await batch.json()).toMatchObject({ created: 2, refused: 1, items: [{}, { problem: { code: 'invalid_parameters' } }, {}] });
});
