import { execFile } from 'node:child_process';
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { defineStep, type StepDefinition } from '../../../activities/steps/define-step.js';
import { packageRoot } from '../../../config.js';
import { docsPages, shippedDirectories, stalePages } from '../../../mains/docs.js';
import { stepTypesDocs, templateDocs } from '../../../templates/docs.js';
import { exampleParameters, formOf, parametersSchema } from '../../../templates/form.js';
import { parseTemplate, type Template } from '../../../templates/parse-template.js';

const docs = path.join(packageRoot(), 'docs');

const greet = defineStep({
  type: 'greet',
  summary: 'Greet somebody.',
  input: z.strictObject({
    who: z.string().describe('Whom | to greet'),
    loud: z.boolean().default(false),
    model: z.string().optional(),
    files: z.array(z.string()).optional(),
  }),
  output: z.object({ text: z.string().describe('The greeting') }),
  policy: { pool: 'general', startToCloseMs: 60_000, attempts: 1 },
  example: '- { type: greet, who: "{{name}}" }',
  async run({ who }) {
    return { text: who };
  },
}) as unknown as StepDefinition;

function parsed(yaml: string): Template {
  const result = parseTemplate('greeting.yaml', yaml, [greet]);
  if ('faults' in result) throw new Error(result.faults.map(({ message }) => message).join('\n'));
  return result.template;
}

const greeting = parsed(`name: greeting
description: Greets | people
parameters:
  - { name: who, type: string, required: true, description: "Whom, with a | bar" }
  - { name: engine, type: string, default: "it's" }
  - { name: notes, type: array }
  - { name: level, type: integer, min: 1, max: 5, default: 2 }
  - { name: mood, type: string, enum: [kind, cross], required: true }
  - { name: long_prompt, type: string }
  - { name: data, type: object }
  - { name: sure, type: boolean }
steps:
  - { id: hello, type: greet, who: "{{who}}", model: "{{engine}}", files: "{{notes}}", when: level > 1, on_failure: skip }
`);

test("the repository's pages of templates and step types are what the generator gives; `npx orchestra docs` renews them [TPL-20]", async () => {
  expect(await stalePages(docs, await docsPages(shippedDirectories()), true)).toEqual([]);
});

test('a page that differs, is missing or is left over is stale [TPL-20]', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'docs-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  await cp(docs, folder, { recursive: true });
  const pages = await docsPages(shippedDirectories());
  const [some = ''] = [...pages.keys()];
  await writeFile(path.join(folder, some), 'something else');
  await rm(path.join(folder, 'step-types.md'));
  await cp(path.join(docs, 'templates', 'ask-files.md'), path.join(folder, 'templates', 'gone.md'));
  await writeFile(path.join(folder, 'templates', 'own.md'), '# of somebody');
  expect(await stalePages(folder, pages, true)).toEqual([some, 'step-types.md', 'templates/gone.md']);
});

test('pages that somebody else wrote are neither deleted nor overwritten, and are named [TPL-20]', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'docs-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  await cp(path.join(docs, 'templates', 'ask-files.md'), path.join(folder, 'templates', 'gone.md'));
  const foreign = ['templates/own.md', 'templates/code-review.md', 'step-types.md'];
  for (const page of foreign) await writeFile(path.join(folder, page), '# of somebody');
  const run = `const { runDocs } = await import(${JSON.stringify(path.join(packageRoot(), 'mains/docs.ts'))}); await runDocs({ out: ${JSON.stringify(folder)} });`;
  const { code, stdout, stderr } = await promisify(execFile)(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', run]).then(
    (done) => ({ code: 0, ...done }),
    (error: { code: number; stdout: string; stderr: string }) => error,
  );
  expect(stdout).toMatch(/^Wrote \d+ pages/);
  expect(code).toBe(1);
  for (const page of foreign) {
    expect(await readFile(path.join(folder, page), 'utf8')).toBe('# of somebody');
    expect(stderr).toContain(page);
  }
  expect(stderr.match(/move it away/g)).toHaveLength(2);
  const present = await readdir(path.join(folder, 'templates'));
  expect(present).toContain('ask-files.md');
  expect(present).not.toContain('gone.md');
});

test('a page has every parameter, every step, a request that fits, and the output [TPL-20, TPL-24]', async () => {
  const page = templateDocs(greeting, 'local');
  await expect(page).toMatchFileSnapshot('greeting.md.snap');
  expect(stepTypesDocs([greet])).toContain('| `who` | string | yes |  | Whom \\| to greet |');
});

test('the command of a page is one that a shell reads as it was meant [TPL-20]', async () => {
  const command = /```sh\nnpx orchestra ([^`]+)```/.exec(templateDocs(greeting, 'local'))?.[1] ?? '';
  const { stdout } = await promisify(execFile)('sh', ['-c', `printf '%s\\n' ${command}`]);
  expect(stdout.split('\n').slice(0, -1)).toEqual([
    'submit',
    'greeting',
    '-p',
    'who=the who',
    '-p',
    "engine=it's",
    '-p',
    'level=2',
    '-p',
    'mood=kind',
    '--wait',
  ]);
});

test('a form asks for each parameter in a way that fits it, and the schema takes what the form gives [TPL-04, DASH-20]', () => {
  expect(formOf(greeting).map(({ name, label, widget }) => [name, label, widget])).toEqual([
    ['who', 'Who', 'text'],
    ['engine', 'Engine', 'model'],
    ['notes', 'Notes', 'files'],
    ['level', 'Level', 'number'],
    ['mood', 'Mood', 'select'],
    ['long_prompt', 'Long prompt', 'textarea'],
    ['data', 'Data', 'json'],
    ['sure', 'Sure', 'checkbox'],
  ]);
  const schema = z.fromJSONSchema(parametersSchema(greeting) as Parameters<typeof z.fromJSONSchema>[0]);
  expect(schema.safeParse(exampleParameters(greeting)).success).toBe(true);
  expect(schema.safeParse({ ...exampleParameters(greeting), level: 6 }).success).toBe(false);
  expect(schema.safeParse({ ...exampleParameters(greeting), more: 1 }).success).toBe(false);
  expect(schema.safeParse({}).success).toBe(false);
});

test('every shipped template has a page with a request that its own schema takes [TPL-20, OPS-14]', async () => {
  for (const [page, text] of await docsPages(shippedDirectories())) {
    if (page === 'step-types.md') continue;
    expect(await readFile(path.join(docs, page), 'utf8')).toBe(text);
    expect(text).toMatch(/-d '\{\n {2}"template"/);
  }
});
