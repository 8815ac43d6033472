import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { runTemplateTests } from '../../../mains/test-templates.js';
import { runValidate } from '../../../mains/validate.js';
import { printedBy } from './run-main-function.js';

const escape = String.raw`\e]0;owned\a`;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const obeyed = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/;

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'printed-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

test('the faults of a template cannot steer the terminal [MGR-10]', async () => {
  const file = join(newFolder(), 'bad.yaml');
  writeFileSync(file, `name: bad\nsteps:\n  - { type: "${escape}" }\n`);
  for (const json of [false, true]) {
    const { code, out } = await printedBy(() => runValidate({ files: [file], json }));
    expect(code).toBe(1);
    expect(out).toContain('owned');
    expect(out).not.toMatch(obeyed);
  }
});

test('names of cases and differences cannot steer the terminal [MGR-10]', async () => {
  const folder = newFolder();
  writeFileSync(
    join(folder, 'small.yaml'),
    'name: small\nparameters:\n  - { name: model, type: string, required: true }\nsteps:\n  - { id: ask, type: ollama_generate, model: "{{model}}", prompt: x }\n',
  );
  writeFileSync(
    join(folder, 'small.test.yaml'),
    `template: small\ncases:\n  - name: "${escape}"\n    parameters: { model: m }\n    steps:\n      ask: { output: { text: x } }\n    expect:\n      steps:\n        ask: { input: { prompt: "${escape}" } }\n`,
  );
  const { out } = await printedBy(() => runTemplateTests({ paths: [folder] }));
  expect(out).toContain('owned');
  expect(out).not.toMatch(obeyed);
});
