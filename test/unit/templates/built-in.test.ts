import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readFileSync } from 'node:fs';
import { pino } from 'pino';
import { afterEach, expect, test } from 'vitest';
import { steps } from '../../../activities/steps/index.js';
import { loadCatalogue } from '../../../templates/catalogue.js';
import { templateSchemaText } from '../../../templates/schema.js';
import { faultsOf, parsed, planOf, testSteps } from './test-steps.js';

const builtIn = fileURLToPath(new URL('../../../templates', import.meta.url));
const log = pino({ enabled: false });
const made: string[] = [];

afterEach(async () => {
  for (const directory of made.splice(0)) await rm(directory, { recursive: true });
});

async function directoryOf(files: Record<string, string>): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'templates-'));
  made.push(directory);
  for (const [name, text] of Object.entries(files)) await writeFile(join(directory, name), text);
  return directory;
}

test('the built-in templates are those of the requirements, and each gives a plan [TPL-05] [TPL-06] [TPL-07]', async () => {
  const catalogue = await loadCatalogue([{ path: builtIn, source: 'built-in' }], steps, log);
  expect(catalogue.broken).toEqual([]);
  expect(
    catalogue
      .list()
      .map(({ template }) => [
        template.name,
        template.parameters.map(({ name, type, required }) => `${name}: ${type}${required ? '' : '?'}`),
        template.steps.map((step) => step.definition.type),
      ]),
  ).toEqual([
    ['file-processing', ['input_files: array', 'analysis_model: string', 'output_format: string'], ['read_files', 'ollama_analyze', 'format_output']],
    ['git-script-execution', ['repo_url: string', 'script_path: string', 'output_path: string'], ['git_clone', 'execute_script', 'store_result']],
    ['ollama-inference', ['model: string', 'prompt: string', 'system_prompt: string?'], ['ollama_generate']],
  ]);
  const template = (name: string) => catalogue.get(name)!.template;
  const inputs = (name: string, parameters: unknown) => planOf(template(name), parameters).steps.map((step) => step.input);
  expect(inputs('file-processing', { input_files: ['a.txt', 'b.txt'], analysis_model: 'llama3.1:8b', output_format: 'markdown' })).toEqual([
    { files: ['a.txt', 'b.txt'] },
    { model: 'llama3.1:8b', options: { num_ctx: 4096 } },
    { format: 'markdown' },
  ]);
  expect(inputs('git-script-execution', { repo_url: 'https://example.org/a.git', script_path: 'run.sh', output_path: 'out/result.json' })).toEqual([
    { repo: 'https://example.org/a.git' },
    { script: 'run.sh' },
    { path: 'out/result.json' },
  ]);
  expect(inputs('ollama-inference', { model: 'llama3.1:8b', prompt: 'Hi' })).toEqual([{ model: 'llama3.1:8b', prompt: 'Hi', options: { num_ctx: 4096 } }]);
  expect(
    faultsOf(template('file-processing'), { input_files: ['a'], analysis_model: 'm', output_format: 'pdf' }).map((fault) => fault.message),
  ).toMatchInlineSnapshot(`
    [
      "file-processing.yaml:11:36: step "format_output", field "format" (parameter "output_format"): expected one of json, markdown, text, csv, got string "pdf"",
    ]
  `);
});

test.each(steps.map((step) => [step.type, step] as const))('the example of %s is a valid step [TPL-24]', (_type, step) => {
  const names = [...step.example.matchAll(/\{\{\s*(\w+)/g)].map((match) => match[1]);
  const parameters = names.map((name) => `  - { name: ${name}, type: string, required: true }\n`).join('');
  const template = parsed(`name: example\n${parameters && `parameters:\n${parameters}`}steps:\n${step.example.replace(/^/gm, '  ')}\n`, steps);
  expect(planOf(template, Object.fromEntries(names.map((name) => [name, 'x']))).steps).toHaveLength(1);
});

test('schema.json is what the step registry gives; `npx vitest run -u test/unit/templates` renews it [TPL-24]', async () => {
  await expect(templateSchemaText(steps)).toMatchFileSnapshot(join(builtIn, 'schema.json'));
});

test('every built-in template tells the editor where its schema is', async () => {
  const catalogue = await loadCatalogue([{ path: builtIn, source: 'built-in' }], steps, log);
  for (const { template } of catalogue.list())
    expect(readFileSync(join(builtIn, template.file), 'utf8').split('\n')[0]).toBe('# yaml-language-server: $schema=./schema.json');
});

test('a broken file is reported and leaves the others usable [TPL-01]', async () => {
  const good = (name: string) => `name: ${name}\nsteps:\n  - { type: read, files: a }\n`;
  const first = await directoryOf({
    'good.yaml': good('good'),
    'broken.yaml': 'name: [\n',
    'other.yaml': `${good('other')}extra: 1\n`,
    'notes.txt': 'x',
    'good.test.yaml': 'x: 1',
    'brackets.yaml': '['.repeat(2000),
  });
  await mkdir(join(first, 'folder.yaml'));
  const second = await directoryOf({ 'again.yaml': good('good'), 'mine.yml': good('mine') });
  const lines: { msg: string; file: string }[] = [];
  const listening = pino({ level: 'error' }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const catalogue = await loadCatalogue(
    [
      { path: first, source: 'built-in' },
      { path: second, source: 'local' },
      { path: join(first, 'absent'), source: 'local' },
    ],
    testSteps,
    listening,
  );
  expect(catalogue.list().map(({ template, source }) => [template.name, source])).toEqual([
    ['good', 'built-in'],
    ['mine', 'local'],
  ]);
  expect(catalogue.broken.map(({ faults }) => faults[0]?.message.replaceAll(first, ''))).toMatchInlineSnapshot(`
    [
      "brackets.yaml:1:64: nested more than 64 levels deep",
      "broken.yaml:2:1: flow sequence in block collection must be sufficiently indented and end with a ]",
      "folder.yaml:1:1: cannot be read: EISDIR: illegal operation on a directory, read",
      "other.yaml:4:1: unknown key "extra"; allowed: name, description, parameters, retry, steps",
      "again.yaml:1:7: name "good" is taken by good.yaml",
    ]
  `);
  expect(lines.map((line) => line.file)).toEqual(catalogue.broken.map(({ file }) => file));
});

test('an unknown name, whatever it looks like, is not there and may have a near one [bad-11]', async () => {
  const catalogue = await loadCatalogue([{ path: builtIn, source: 'built-in' }], steps, log);
  for (const name of ['nope', 'Ollama-Inference', '../ollama-inference', '__proto__', 'constructor', 'x'.repeat(1000), ''])
    expect(catalogue.get(name)).toBeUndefined();
  expect(catalogue.suggest('olama-inference')).toBe('ollama-inference');
  expect(catalogue.suggest('Ollama-Inference')).toBe('ollama-inference');
  expect(catalogue.suggest('x'.repeat(1000))).toBeUndefined();
});
