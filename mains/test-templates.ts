import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { pino } from 'pino';
import { steps } from '../activities/steps/index.js';
import { loadConfig } from '../config.js';
import { visibleJson, visibleLine } from '../contract/visible.js';
import { type Catalogue, loadCatalogue } from '../templates/catalogue.js';
import { type FindTemplate, runTestFile, type TestFileResult } from '../templates/testing/run-test-file.js';
import { templateDirectories } from './parts.js';

export interface TestTemplatesOptions {
  /** test files, templates, or folders of them; empty: the folders that templates are served from */
  readonly paths?: readonly string[];
  /** the results as one JSON document instead of lines */
  readonly json?: boolean;
}

/** A path that nothing can be tested from; the exit code is 2. */
class PathFault extends Error {}

/**
 * `orchestra test`: runs test files, prints a line for each case and each difference, and the sum. Exit code 1 when a case failed or a file
 * is broken, 2 when a path is not there or holds no tests.
 */
export async function runTemplateTests({ paths = [], json = false }: TestTemplatesOptions = {}): Promise<void> {
  try {
    const files = paths.length === 0 ? await servedTests() : await namedTests(paths);
    const results = await resultsOf(files);
    const failed = results.some(({ faults, cases }) => faults.length > 0 || cases.some(({ differences }) => differences.length > 0));
    process.stdout.write(json ? `${visibleJson({ passed: !failed, files: results })}\n` : linesOf(results));
    if (failed) process.exitCode = 1;
  } catch (error) {
    process.stderr.write(`orchestra test: ${visibleLine(error instanceof Error ? error.message : String(error))}\n`);
    process.exitCode = 2;
  }
}

async function servedTests(): Promise<string[]> {
  const folders = templateDirectories(loadConfig()).map(({ path }) => path);
  return (await Promise.all(folders.map((folder) => testsIn(folder).catch(() => [])))).flat();
}

async function namedTests(paths: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const path of paths) {
    const facts = await stat(path).catch(() => undefined);
    if (facts === undefined) throw new PathFault(`There is no ${path}.`);
    if (facts.isDirectory()) {
      const inside = await testsIn(path);
      if (inside.length === 0) throw new PathFault(`${path} holds no *.test.yaml.`);
      found.push(...inside);
    } else if (isTest(path)) found.push(path);
    else if (/\.ya?ml$/.test(path)) {
      const test = path.replace(/\.(ya?ml)$/, '.test.$1');
      if ((await stat(test).catch(() => undefined)) === undefined) throw new PathFault(`${path} has no tests: there is no ${test}.`);
      found.push(test);
    } else throw new PathFault(`${path} is neither a test file (*.test.yaml) nor a template nor a folder.`);
  }
  return [...new Set(found)];
}

function isTest(name: string): boolean {
  return /\.test\.ya?ml$/.test(name);
}

async function testsIn(folder: string): Promise<string[]> {
  return (await readdir(folder))
    .filter(isTest)
    .sort()
    .map((name) => join(folder, name));
}

async function resultsOf(files: readonly string[]): Promise<TestFileResult[]> {
  const catalogues = new Map<string, Catalogue>();
  const results: TestFileResult[] = [];
  for (const file of files) {
    const folder = dirname(file);
    const catalogue = catalogues.get(folder) ?? (await loadCatalogue([{ path: folder, source: 'local' }], steps, pino({ level: 'silent' })));
    catalogues.set(folder, catalogue);
    const shown = relative(process.cwd(), file);
    results.push(runTestFile(shown.startsWith('..') ? file : shown, await readFile(file, 'utf8'), finder(catalogue, file), steps));
  }
  return results;
}

/** A template whose file is broken has no name to go by; the test file's own name says which it is. */
function finder(catalogue: Catalogue, testFile: string): FindTemplate {
  const stem = basename(testFile).replace(/\.test\.ya?ml$/, '');
  return (name) => {
    const template = catalogue.get(name)?.template;
    if (template) return { template };
    return catalogue.broken.find(({ file }) => [name, stem].includes(basename(file).replace(/\.ya?ml$/, '')));
  };
}

function linesOf(results: readonly TestFileResult[]): string {
  const lines: string[] = [];
  for (const { file, template, faults, cases } of results) {
    if (faults.length > 0) lines.push(`FAIL  ${template ?? file}: cannot be tested`, ...faults.map((fault) => `      ${fault}`));
    for (const { name, differences } of cases) {
      lines.push(`${differences.length === 0 ? 'ok  ' : 'FAIL'}  ${template}: ${name}`, ...differences.map((difference) => `      ${difference}`));
    }
  }
  const cases = results.flatMap((result) => result.cases);
  const failed = cases.filter(({ differences }) => differences.length > 0).length;
  const broken = results.filter(({ faults }) => faults.length > 0).length;
  lines.push(
    '',
    `${results.length} files, ${cases.length} cases: ${cases.length - failed} passed, ${failed} failed${broken > 0 ? `; ${broken} files cannot be tested` : ''}.`,
  );
  // Names of cases and what is compared come from files that anybody may have written.
  return `${lines.map(visibleLine).join('\n').trimStart()}\n`;
}
