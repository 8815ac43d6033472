import { readdirSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { packageRoot } from '../../../config.js';
import type { PlanStep } from '../../../contract/plan.js';
import { runTemplateTests } from '../../../mains/test-templates.js';
import * as planProgress from '../../../scheduling/plan-progress.js';
import { parseTemplate } from '../../../templates/parse-template.js';
import { runTestFile } from '../../../templates/testing/run-test-file.js';
import { testSchemaText } from '../../../templates/testing/test-file.js';
import { mayRetry } from '../../../templates/testing/walk.js';
import { testSteps } from './test-steps.js';

const template = `name: sample
parameters:
  - { name: topic, type: string, required: true, max: 20 }
  - { name: extra, type: boolean, default: false }
steps:
  - { id: load, type: read, files: "{{ topic }}.txt" }
  - { id: more, type: read, files: more.txt, when: extra, on_failure: skip }
  - { id: reply, type: ask, model: m, prompt: "About {{ topic }}: {{ steps.load.text }}" }
`;
const good = `template: sample
cases:
  - name: one
    parameters: { topic: tea }
    steps:
      load: { output: { text: hot, count: 1 } }
      reply: { output: { text: yes it is } }
    expect:
      skipped: [more]
      steps:
        load: { input: { files: tea.txt } }
        reply: { input: { prompt: "About tea: hot" }, attempts: 1 }
      status: completed
      result: { text: yes it is, steps: { load: { count: 1 }, more: {} } }
`;

function run(text: string, source = template) {
  const parsed = parseTemplate('sample.yaml', source, testSteps);
  return runTestFile('sample.test.yaml', text, (name) => (name === 'sample' ? parsed : undefined), testSteps);
}
/** Everything a file is blamed for. */
function told(text: string, source?: string): string[] {
  const { faults, cases } = run(text, source);
  return [...faults, ...cases.flatMap(({ differences }) => differences)];
}
const changed = (from: string, to: string) => {
  if (!good.includes(from)) throw new Error(`the sample has no ${from}`);
  return good.replace(from, to);
};

test('a case whose template does what it expects passes [TPL-21]', () => {
  expect(run(good)).toEqual({ file: 'sample.test.yaml', template: 'sample', faults: [], cases: [{ name: 'one', line: 3, differences: [] }] });
});

describe('a seeded fault is found, with its line [TPL-21]', () => {
  test.each([
    [
      'a wrong rendered input',
      changed('"About tea: hot"', '"About tea: cold"'),
      '12: step "reply": input.prompt: expected "About tea: cold", got "About tea: hot"',
    ],
    [
      'a part that is not in a text',
      changed('"About tea: hot"', '{ $contains: cold }'),
      '12: step "reply": input.prompt: expected a text with "cold", got string "About tea: hot"',
    ],
    [
      'a field that should be absent',
      changed('files: tea.txt', 'files: { $absent: true }'),
      '11: step "load": input.files: expected nothing, got string "tea.txt"',
    ],
    ['a skip that is not expected', changed('skipped: [more]', 'skipped: []'), '9: step "more": is skipped, which is not expected'],
    ['a skip that nobody named', changed('      skipped: [more]\n', ''), '9: step "more": is skipped, which is not expected'],
    ['a skip that does not come', changed('skipped: [more]', 'skipped: [more, load]'), '9: step "load": expected to be skipped, but it is completed'],
    [
      'a wrong status',
      changed('status: completed\n      result: { text: yes it is, steps: { load: { count: 1 }, more: {} } }', 'status: failed'),
      '13: expected the task to be failed, but it is completed',
    ],
    ['a wrong result', changed('count: 1 }, more', 'count: 2 }, more'), '14: result.steps.load.count: expected number 2, got number 1'],
    ['a wrong number of attempts', changed('attempts: 1', 'attempts: 2'), '12: step "reply": expected 2 attempts, got 1'],
    [
      'a fake of another type',
      changed('text: hot, count: 1', 'text: hot, count: many'),
      '6: step "load": output.count: read could not give this: expected number, got string "many"',
    ],
    [
      'a fake without a field',
      changed('text: hot, count: 1', 'text: hot'),
      '6: step "load": output.count: read could not give this: is missing; expected number',
    ],
    ['a fake with a field too many', changed('count: 1 } }', 'count: 1, size: 2 } }'), '6: step "load": output.size: read gives no such field'],
    [
      'a step without a fake',
      changed('      load: { output: { text: hot, count: 1 } }\n', ''),
      '6: step "load": it runs, and the case says neither its output nor its failure',
    ],
    [
      'an unknown step among the fakes',
      changed('      load: {', '      lod: {'),
      '6: template "sample" has no step "lod", did you mean "load"?; its steps: load, more, reply',
    ],
    [
      'an unknown step in what is expected',
      changed('        load: { input', '        lload: { input'),
      '11: template "sample" has no step "lload", did you mean "load"?; its steps: load, more, reply',
    ],
    ['an expected step that is skipped', changed('attempts: 1 }', 'attempts: 1 }\n        more: {}'), '13: step "more": expected to run, but it is skipped'],
    ['a submission that is refused', changed('topic: tea', 'topic: 1'), '4: the submission is refused: parameter "topic": expected string, got number 1'],
    ['an unknown template', changed('template: sample', 'template: simple'), '1: there is no template "simple" beside this file'],
    [
      'an unknown key',
      changed('status: completed', 'state: completed'),
      '13: unknown key "state", did you mean "status"?; allowed: steps, skipped, status, error, result, faults',
    ],
    ['a file that is no YAML', 'template: [', '1: '],
  ])('%s', (_, text, message) => {
    const [first, ...others] = told(text);
    expect(first?.replace(/^(sample.test.yaml:\d+):\d+:/, '$1:')).toContain(`sample.test.yaml:${message}`);
    expect(others).toEqual([]);
  });

  test('a fault that is expected and does not come', () => {
    const text = 'template: sample\ncases:\n  - { name: one, parameters: { topic: tea }, expect: { faults: [topic] } }\n';
    expect(told(text)).toEqual(['sample.test.yaml:3:65: expected a fault with "topic", but the submission is accepted']);
    expect(told(text.replace('topic: tea', 'topic: 1'))).toEqual([]);
  });

  test('a fault that comes beside the expected one', () => {
    const text = 'template: sample\ncases:\n  - { name: one, parameters: { topic: 1, extra: 2 }, expect: { faults: [topic, other] } }\n';
    expect(told(text)).toEqual([
      'sample.test.yaml:3:80: expected a fault with "other", there is none',
      'sample.test.yaml:3:72: a fault that is not expected: parameter "extra": expected boolean, got number 2',
    ]);
  });

  test('a template that is broken, with the faults of its own file', () => {
    expect(told(good, template.replace('type: ask', 'type: ak'))).toEqual([
      'sample.test.yaml:1:11: template "sample" is broken',
      expect.stringContaining('sample.yaml:8:24: step "reply": unknown step type "ak"'),
    ]);
  });
});

describe('failures', () => {
  const failing = (fail: string, expected: string) =>
    `template: sample\ncases:\n  - { name: one, parameters: { topic: tea }, steps: { load: { fail: ${fail} } }, expect: ${expected} }\n`;

  test('are tried again as the step says, and end the task', () => {
    expect(told(failing('{ code: broken }', '{ steps: { load: { attempts: 3 } }, error: { code: broken, step: load, message: faked } }'))).toEqual([]);
    expect(told(failing('{ code: no_such_file }', '{ steps: { load: { attempts: 1 } }, status: failed }'))).toEqual([]);
    expect(told(failing('{ code: broken, retryable: false }', '{ steps: { load: { attempts: 1 } }, status: failed }'))).toEqual([]);
    expect(told(failing('{ code: broken }', '{ error: { code: other } }'))).toEqual([expect.stringContaining('error.code: expected "other", got "broken"')]);
    expect(told(failing('{ code: broken }', '{}'))).toEqual([
      expect.stringContaining('expected the task to be completed, but it is failed at step "load": broken'),
    ]);
  });

  test('that pass are followed by the output', () => {
    const text = changed('load: { output: { text: hot, count: 1 } }', 'load: { fail: { code: broken, times: 2 }, output: { text: hot, count: 1 } }').replace(
      'files: tea.txt }',
      'files: tea.txt }, attempts: 3',
    );
    expect(told(text)).toEqual([]);
  });

  test('of a step that may be skipped leave the task to go on', () => {
    const text = changed('topic: tea', 'topic: tea, extra: true').replace('      reply: { out', '      more: { fail: { code: broken } }\n      reply: { out');
    expect(told(text)).toEqual([]);
  });

  test('are decided as the workflow decides them', () => {
    const step = (onFailure: PlanStep['onFailure']) => ({ onFailure, retry: { maximumAttempts: 2, nonRetryable: ['never'] } }) as unknown as PlanStep;
    for (const onFailure of ['retry', 'skip', 'fail_workflow'] as const)
      for (const attempt of [1, 2])
        for (const code of ['never', 'other'])
          for (const retryable of [true, false]) {
            const args = [step(onFailure), attempt, { code, retryable }] as const;
            expect(mayRetry(...args)).toBe(planProgress.mayRetry(...args));
          }
  });
});

test('test-schema.json is what the test files are checked by; `npx vitest run -u test/unit/templates` renews it [TPL-21]', async () => {
  await expect(testSchemaText()).toMatchFileSnapshot(join(packageRoot(), 'templates', 'test-schema.json'));
});

describe('the command', () => {
  const made: string[] = [];
  afterEach(async () => {
    process.exitCode = 0;
    vi.restoreAllMocks();
    for (const folder of made.splice(0)) await rm(folder, { recursive: true });
  });

  async function command(options: Parameters<typeof runTemplateTests>[0]) {
    const printed: string[] = [];
    process.exitCode = 0;
    for (const stream of [process.stdout, process.stderr]) vi.spyOn(stream, 'write').mockImplementation((text) => printed.push(String(text)) > 0);
    await runTemplateTests(options);
    const code = process.exitCode;
    vi.restoreAllMocks();
    return { code, text: printed.join('') };
  }

  async function folderOf(files: Record<string, string>): Promise<string> {
    const folder = await mkdtemp(join(tmpdir(), 'template-tests-'));
    made.push(folder);
    for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
    return folder;
  }

  const shipped = [join(packageRoot(), 'templates'), join(packageRoot(), 'templates', 'community')];

  test('finds every template that ships with the product in order, and two cases for each [TPL-21] [OPS-14]', async () => {
    const { code, text } = await command({ paths: shipped, json: true });
    const { passed, files } = JSON.parse(text) as { passed: boolean; files: { template: string; cases: { differences: string[] }[]; faults: string[] }[] };
    expect(files.flatMap(({ faults, cases }) => [...faults, ...cases.flatMap(({ differences }) => differences)])).toEqual([]);
    expect({ code, passed }).toEqual({ code: 0, passed: true });
    const templates = shipped.flatMap((folder) => readdirSync(folder).filter((name) => /^[^.]+\.yaml$/.test(name)));
    expect(
      files
        .filter(({ cases }) => cases.length >= 2)
        .map(({ template: name }) => `${name}.yaml`)
        .sort(),
    ).toEqual(templates.sort());
    expect(templates.length).toBeGreaterThanOrEqual(3 + 12);
  });

  test('prints a line for each case and each difference, and the sum; its exit code tells', async () => {
    const local = 'name: sample\nsteps:\n  - { type: format_output, format: text, data: hello }\n';
    const cases = (expected: string) =>
      `template: sample\ncases:\n  - name: one\n    steps: { format_output: { output: { text: hello, format: text } } }\n    expect: { result: { text: ${expected} } }\n`;
    const folder = await folderOf({ 'sample.yaml': local, 'sample.test.yaml': cases('hello'), 'second.test.yaml': cases('bye') });
    const passing = await command({ paths: [join(folder, 'sample.yaml')] });
    expect(passing).toEqual({ code: 0, text: 'ok    sample: one\n\n1 files, 1 cases: 1 passed, 0 failed.\n' });
    const failing = await command({ paths: [folder] });
    expect(failing.code).toBe(1);
    expect(failing.text).toContain('second.test.yaml:5:31: result.text: expected "bye", got "hello"\n\n2 files, 2 cases: 1 passed, 1 failed.\n');
    const broken = await folderOf({ 'sample.yaml': 'name: [', 'sample.test.yaml': cases('hello') });
    const unusable = await command({ paths: [join(broken, 'sample.test.yaml')] });
    expect(unusable.code).toBe(1);
    expect(unusable.text).toContain('template "sample" is broken');
  });

  test('says that a path holds no tests', async () => {
    const folder = await folderOf({ 'lonely.yaml': 'name: lonely\n' });
    for (const path of [join(folder, 'absent'), folder, join(folder, 'lonely.yaml')])
      expect(await command({ paths: [path] })).toMatchObject({ code: 2, text: expect.stringContaining(path) });
  });
});
