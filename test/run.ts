import { spawn } from 'node:child_process';
import { access, constants, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { buildOllama, whyNoBuild } from '../activities/backends/server/build-ollama.js';
import { findOllamaBinary, ollamaModuleDirectory } from '../activities/backends/server/provide-ollama.js';
import { loadConfig } from '../config.js';
import { provideTemporal } from '../temporal/server/provide-temporal.js';
import { answersVariable, declaredAnswers, unseenAnswers } from './support/answers.js';

// `npm test`: all that a fresh machine needs, then every check. Arguments go to vitest: `npm test -- test/unit/db`.
// The last line printed is the sum: `N passed, N failed`, and `, N skipped` when something was.

const root = path.join(import.meta.dirname, '..');
const bin = (name: string) => path.join(root, 'node_modules', '.bin', name);

/** Programs that tests call; each has the name of its Debian package. */
const needed = [
  { program: 'git', debianPackage: 'git' },
  { program: 'bwrap', debianPackage: 'bubblewrap' },
  { program: 'chromium', debianPackage: 'chromium' },
] as const;

const checks: readonly (readonly [title: string, program: string, args: readonly string[]])[] = [
  ['types', bin('tsc'), ['--noEmit']],
  ['types of browser scripts', bin('tsc'), ['-p', 'dashboard/browser']],
  ['lint', bin('oxlint'), ['--type-aware', '--deny-warnings']],
  ['format', bin('biome'), ['format', '.']],
  ['unused code', bin('knip'), []],
  ['build', bin('tsc'), ['-p', 'tsconfig.build.json']],
];

interface Sum {
  passed: number;
  failed: number;
  skipped: number;
}

/** What `--reporter=json` of vitest writes, as far as it is read here. */
interface VitestResult {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numTodoTests: number;
  readonly testResults: readonly { readonly name: string; readonly status: string; readonly assertionResults: readonly unknown[] }[];
}

/** A check that failed; it has said why already. */
class CheckFailed extends Error {
  override readonly name = 'CheckFailed';
}

const say = (line: string) => console.log(line);

async function exitCodeOf(program: string, args: readonly string[], env: Record<string, string> = {}): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'], env: { ...process.env, ...env } });
    const forward = (signal: NodeJS.Signals) => void child.kill(signal);
    process.on('SIGINT', forward).on('SIGTERM', forward);
    child.once('error', reject);
    child.once('exit', (code) => {
      process.off('SIGINT', forward).off('SIGTERM', forward);
      resolve(code ?? 1);
    });
  });
}

async function isOnPath(program: string): Promise<boolean> {
  for (const folder of (process.env['PATH'] ?? '').split(path.delimiter).filter(Boolean)) {
    const found = await access(path.join(folder, program), constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return true;
  }
  return false;
}

/** Installs what tests call where this user may; elsewhere says what to install. */
async function makeSureOfPrograms(): Promise<void> {
  const missing = [];
  for (const each of needed) if (!(await isOnPath(each.program))) missing.push(each);
  if (missing.length === 0) return;
  const packages = missing.map(({ debianPackage }) => debianPackage);
  if (process.getuid?.() === 0 && (await isOnPath('apt-get'))) {
    say(`installing ${packages.join(', ')}`);
    const env = { DEBIAN_FRONTEND: 'noninteractive' };
    await exitCodeOf('apt-get', ['update', '-q'], env);
    await exitCodeOf('apt-get', ['install', '-q', '-y', '--no-install-recommends', ...packages], env);
  }
  for (const { program, debianPackage } of missing) {
    if (!(await isOnPath(program)))
      throw new CheckFailed(`The tests need ${program}: install the package ${debianPackage}, for example with \`apt-get install ${debianPackage}\`.`);
  }
}

async function check(title: string, program: string, args: readonly string[]): Promise<void> {
  const startedMs = Date.now();
  const code = await exitCodeOf(program, args);
  if (code !== 0) throw new CheckFailed(`${title} failed: ${path.basename(program)} ${args.join(' ')} ended with ${code}.`);
  say(`${title}: ok, ${((Date.now() - startedMs) / 1000).toFixed(1)} s`);
}

/** The tests start servers of their own, so one that runs already is of no use here. */
async function makeSureOfServers(): Promise<void> {
  const { cacheDir, path: searched } = loadConfig(process.env);
  await provideTemporal({ address: null, path: searched, cacheDir, say });
  const found = await findOllamaBinary(searched, cacheDir);
  if (found !== null) return say(`Ollama: ${found.binary}`);
  const { signal } = new AbortController();
  const hindrance = await whyNoBuild(signal);
  if (hindrance !== null) throw new CheckFailed(`The tests need Ollama, which is not on PATH and cannot be built: ${hindrance}.`);
  say(`Ollama: ${await buildOllama({ moduleDir: ollamaModuleDirectory(), cacheDir, say, signal })}`);
}

async function runVitest(args: readonly string[]): Promise<Sum> {
  const folder = await mkdtemp(path.join(tmpdir(), 'orchestra-sum-'));
  try {
    const file = path.join(folder, 'result.json');
    const answers = path.join(folder, 'answers');
    const code = await exitCodeOf(bin('vitest'), ['run', '--reporter=default', '--reporter=json', `--outputFile.json=${file}`, ...args], {
      [answersVariable]: answers,
    });
    const result = await readFile(file, 'utf8').then(
      (text) => JSON.parse(text) as VitestResult,
      () => undefined,
    );
    if (result === undefined) throw new CheckFailed(`vitest ended with ${code} and left no result.`);
    const sum = sumOf(result, code);
    // A part of the tests cannot show every answer.
    return args.length > 0 ? sum : withAnswers(sum, unseenAnswers(answers));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function sumOf(result: VitestResult, exitCode: number): Sum {
  const unread = result.testResults.filter(({ status, assertionResults }) => status === 'failed' && assertionResults.length === 0);
  for (const { name } of unread) say(`${path.relative(root, name)} could not be run.`);
  const failed = result.numFailedTests + unread.length;
  // An error outside every test, such as an unhandled rejection, makes vitest fail without a failed test.
  return { passed: result.numPassedTests, failed: failed === 0 && exitCode !== 0 ? 1 : failed, skipped: result.numPendingTests + result.numTodoTests };
}

/** One more check that passed, or as many that failed as there are declared answers that no test saw. */
function withAnswers(sum: Sum, unseen: readonly string[]): Sum {
  for (const name of unseen) say(`No test saw this answer, which the OpenAPI document declares: ${name}`);
  if (unseen.length === 0) say(`answers: each of the ${declaredAnswers().length} that the OpenAPI document declares was seen`);
  return unseen.length === 0 ? { ...sum, passed: sum.passed + 1 } : { ...sum, failed: sum.failed + unseen.length };
}

async function run(): Promise<Sum> {
  try {
    await makeSureOfPrograms();
    for (const [title, program, args] of checks) await check(title, program, args);
    await makeSureOfServers();
    return await runVitest(process.argv.slice(2));
  } catch (error) {
    console.error(error instanceof CheckFailed ? error.message : error);
    return { passed: 0, failed: 1, skipped: 0 };
  }
}

const { passed, failed, skipped } = await run();
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
say(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
