import type { JsonValue } from '../../contract/json.js';
import { defaultRegistries } from '../../contract/model-name.js';
import { compileTask, type CompileOptions } from '../compile.js';
import { pathText, type SubmissionFault, type TemplateFault, type YamlPath } from '../fault.js';
import { check } from '../issues.js';
import { suggestion } from '../nearest.js';
import type { StepRegistry, Template } from '../parse-template.js';
import { parseYaml, type Yaml } from '../yaml.js';
import { type Mismatch, mismatches } from './compare.js';
import { type Expectation, type TestCase, TestFile } from './test-file.js';
import { type Walked, walkPlan } from './walk.js';

/** A case that was run. */
export interface CaseResult {
  readonly name: string;
  readonly line: number;
  /** one line each, beginning with `file:line:column`; empty when the case passed */
  readonly differences: readonly string[];
}

/** What a test file came to. */
export interface TestFileResult {
  readonly file: string;
  /** null when the file does not say which */
  readonly template: string | null;
  /** why no case could be run: the file or its template is broken, or there is no such template */
  readonly faults: readonly string[];
  readonly cases: readonly CaseResult[];
}

/** A template by its name; its faults when its file is broken, undefined when there is none. */
export type FindTemplate = (name: string) => { readonly template: Template } | { readonly faults: readonly TemplateFault[] } | undefined;

/** The same everywhere, so that a template that passes passes on every machine. */
const deployment: CompileOptions['deployment'] = { numCtx: 4096, allowedRegistries: defaultRegistries, timeoutSecondsMax: 604_800 };

/**
 * Runs the cases of a test file without any server: compiles as a submission does, walks the plan with the faked steps, compares.
 * Never throws; safe for text that nobody has checked.
 * @param file its name for messages
 */
export function runTestFile(file: string, text: string, find: FindTemplate, registry: StepRegistry): TestFileResult {
  const broken = (faults: readonly string[], template: string | null = null): TestFileResult => ({ file, template, faults, cases: [] });
  const parsed = parseYaml(file, text);
  if ('faults' in parsed) return broken(parsed.faults.map(({ message }) => message));
  const { yaml } = parsed;
  const issues = check(TestFile, yaml.value);
  if (issues.length > 0) {
    return broken(issues.map(({ path, key, text: told }) => at(yaml, path, path.length === 0 || key !== null ? told : `${pathText(path)}: ${told}`, key)));
  }
  const { template: name, cases } = TestFile.parse(yaml.value);
  const found = find(name);
  if (found === undefined) return broken([at(yaml, ['template'], `there is no template "${name}" beside this file`)], name);
  if ('faults' in found) return broken([at(yaml, ['template'], `template "${name}" is broken`), ...found.faults.map(({ message }) => message)], name);
  const run = new CaseRunner(yaml, found.template, registry);
  return { file, template: name, faults: [], cases: cases.map((each, index) => run.case(each, index)) };
}

function at(yaml: Yaml, path: YamlPath, text: string, key: string | null = null): string {
  const { file, line, column } = key === null ? yaml.at(path) : yaml.atKey(path, key);
  return `${file}:${line}:${column}: ${text}`;
}

class CaseRunner {
  private readonly yaml: Yaml;
  private readonly template: Template;
  private readonly definitions: ReadonlyMap<string, StepRegistry[number]>;

  constructor(yaml: Yaml, template: Template, registry: StepRegistry) {
    this.yaml = yaml;
    this.template = template;
    this.definitions = new Map(registry.map((definition) => [definition.type, definition]));
  }

  case(test: TestCase, index: number): CaseResult {
    const here = (path: YamlPath, text: string) => at(this.yaml, ['cases', index, ...path], text);
    return { name: test.name, line: this.yaml.at(['cases', index]).line, differences: this.differences(test, here) };
  }

  private differences(test: TestCase, here: Here): string[] {
    const unknown = this.unknownSteps(test, here);
    if (unknown.length > 0) return unknown;
    const compiled = compileTask(this.template, test.parameters, { deployment });
    if ('faults' in compiled) return refused(compiled.faults, test.expect.faults, here);
    const { faults } = test.expect;
    if (faults)
      return faults.map((text, at) => here(['expect', 'faults', at], `expected a fault with ${JSON.stringify(text)}, but the submission is accepted`));
    const walked = walkPlan(compiled.plan, this.definitions, test.steps);
    if (walked.faults.length > 0) return walked.faults.map(({ step, path, text }) => here(['steps', step, ...path], `step "${step}": ${text}`));
    return [...stepDifferences(walked, test.expect, here), ...skipDifferences(walked, test.expect, here), ...endDifferences(walked, test.expect, here)];
  }

  private unknownSteps({ steps, expect }: TestCase, here: Here): string[] {
    const ids = this.template.steps.map(({ id }) => id);
    const named: YamlPath[] = [
      ...Object.keys(steps).map((id) => ['steps', id]),
      ...Object.keys(expect.steps ?? {}).map((id) => ['expect', 'steps', id]),
      ...(expect.skipped ?? []).map((_, position) => ['expect', 'skipped', position]),
      ...(expect.error?.step === undefined ? [] : [['expect', 'error', 'step']]),
    ];
    return named.flatMap((path) => {
      const last = path.at(-1);
      const id = typeof last === 'number' ? (expect.skipped?.[last] ?? '') : path[1] === 'error' ? (expect.error?.step ?? '') : String(last);
      if (ids.includes(id)) return [];
      return [here(path, `template "${this.template.name}" has no step "${id}"${suggestion(id, ids)}; its steps: ${ids.join(', ')}`)];
    });
  }
}

type Here = (path: YamlPath, text: string) => string;

function refused(faults: readonly SubmissionFault[], expected: readonly string[] | undefined, here: Here): string[] {
  if (expected === undefined) return faults.map(({ message }) => here(['parameters'], `the submission is refused: ${message}`));
  const missed = expected.flatMap((text, index) =>
    faults.some(({ message }) => message.includes(text))
      ? []
      : [here(['expect', 'faults', index], `expected a fault with ${JSON.stringify(text)}, there is none`)],
  );
  const unnamed = faults.filter(({ message }) => !expected.some((text) => message.includes(text)));
  return [...missed, ...unnamed.map(({ message }) => here(['expect', 'faults'], `a fault that is not expected: ${message}`))];
}

function stepDifferences({ ends, error }: Walked, { steps = {} }: Expectation, here: Here): string[] {
  return Object.entries(steps).flatMap(([id, { input, attempts }]) => {
    const path = ['expect', 'steps', id];
    const end = ends.get(id);
    if (end === undefined || end.input === null) {
      const why =
        end?.state === 'skipped' ? 'it is skipped' : error ? `the task fails at step "${error.step}": ${error.code}: ${error.message}` : 'it is not reached';
      return [here(path, `step "${id}": expected to run, but ${why}`)];
    }
    const told = ({ path: below, text }: Mismatch) => here([...path, 'input', ...below], `step "${id}": ${pathText(['input', ...below])}: ${text}`);
    const inputs = input === undefined ? [] : mismatches(input, end.input).map(told);
    if (attempts === undefined || attempts === end.attempts) return inputs;
    return [...inputs, here([...path, 'attempts'], `step "${id}": expected ${attempts} attempts, got ${end.attempts}`)];
  });
}

function skipDifferences({ ends }: Walked, { skipped: expected = [] }: Expectation, here: Here): string[] {
  const missed = expected.flatMap((id, index) => {
    const state = ends.get(id)?.state;
    return state === 'skipped' ? [] : [here(['expect', 'skipped', index], `step "${id}": expected to be skipped, but it is ${state?.replace('_', ' ')}`)];
  });
  const extra = [...ends].filter(([id, { state }]) => state === 'skipped' && !expected.includes(id));
  return [...missed, ...extra.map(([id]) => here(['expect', 'skipped'], `step "${id}": is skipped, which is not expected`))];
}

function endDifferences({ status, error, result }: Walked, expect: Expectation, here: Here): string[] {
  const wanted = expect.status ?? (expect.error ? 'failed' : 'completed');
  const why = error ? ` at step "${error.step}": ${error.code}: ${error.message}` : '';
  if (wanted !== status) return [here(['expect', 'status'], `expected the task to be ${wanted}, but it is ${status}${why}`)];
  const { code, step, message } = expect.error ?? {};
  const wantedError: Record<string, JsonValue> = {
    ...(code !== undefined && { code }),
    ...(step !== undefined && { step }),
    ...(message !== undefined && { message: { $contains: message } }),
  };
  const errors = error
    ? mismatches(wantedError, { ...error }).map(({ path, text }) => here(['expect', 'error', ...path], `${pathText(['error', ...path])}: ${text}`))
    : [];
  const results = expect.result && result ? mismatches(expect.result, result) : [];
  return [...errors, ...results.map(({ path, text }) => here(['expect', 'result', ...path], `${pathText(['result', ...path])}: ${text}`))];
}
