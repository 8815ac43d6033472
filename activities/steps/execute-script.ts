import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { StepFailure } from '../../contract/failure.js';
import { namesOf, openFileBelow, PathRefused } from '../open-below.js';
import { defineStep } from './define-step.js';
import { repositoryDirectory } from './git-clone.js';

const MINUTE_MS = 60_000;
/** Kept of each of stdout and stderr: both together stay below the 2 MB of a stored result. */
const keptBytes = 512 * 1024;
const storedCharsMax = 1_800_000;
const logCharsMax = 16_000;

const interpreterOf: Readonly<Record<string, string>> = { sh: 'sh', py: 'python3', js: 'node', mjs: 'node', cjs: 'node' };

export const executeScript = defineStep({
  type: 'execute_script',
  summary: 'Run a script of the cloned repository in a sandbox without network.',
  input: z.strictObject({
    script: z.string().min(1).max(4096).describe('Path of the script in the repository (in the workspace when nothing was cloned)'),
    args: z.array(text(32_768)).max(1000).default([]).describe('Handed over as they are; no shell reads them'),
    env: z
      .record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, 'a variable is named with letters, digits and "_"'), text(32_768))
      .default({})
      .describe('Environment beside PATH, HOME, LANG and TMPDIR; nothing else is inherited'),
    interpreter: z
      .string()
      .regex(/^[A-Za-z][A-Za-z0-9._+-]{0,63}$/, 'the name of a program, without a path')
      .optional()
      .describe('Program that runs the script; otherwise its first line when it is executable, otherwise by extension: .sh, .py, .js'),
  }),
  output: z.object({
    exit_code: z.int().describe('0; another code fails the step'),
    stdout: z.string().describe('What the script printed: beginning and end when it is longer than the limit of output'),
    stderr: z.string().describe('What it printed as errors, bounded in the same way'),
    truncated: z.boolean().describe('Whether parts of stdout or stderr were left out'),
    duration_seconds: z.number().describe('How long it ran'),
    sandbox: z.enum(['bwrap', 'uid', 'none']).describe('What kept it apart from the machine'),
  }),
  // A script that failed is tried again only when its author asks for attempts: it may have done half of its work.
  policy: { pool: 'general', startToCloseMs: 10 * MINUTE_MS, attempts: 1, nonRetryable: ['script_refused', 'sandbox_unavailable'] },
  example: '- { type: execute_script, script: scripts/build.sh, args: ["--release"], env: { LEVEL: "2" } }',
  async run({ script, args, env, interpreter }, { sandbox, workspace, limits, signal, output: tell, progress, record }) {
    const cloned = await lstat(join(workspace, repositoryDirectory)).catch(() => undefined);
    const cwd = cloned?.isDirectory() ? repositoryDirectory : '.';
    const program = await programOf(join(workspace, cwd), script, interpreter);
    progress({ phase: 'running' });
    const result = await sandbox.run({
      argv: [...program, ...args],
      workspace,
      cwd,
      env,
      timeoutMs: limits.timeoutMs,
      outputBytes: Math.min(keptBytes, limits.outputBytes),
      outputBytesMax: limits.outputBytes,
      diskBytes: limits.diskBytes,
      memoryBytes: limits.memoryBytes,
      onOutput: tell,
      signal,
    });
    record({
      ...(result.cpuSeconds === null ? {} : { cpuSeconds: result.cpuSeconds }),
      ...(result.memoryBytesMax === null ? {} : { memoryUsedGb: result.memoryBytesMax / 1e9 }),
      ...(result.exitCode === null ? {} : { exitCode: result.exitCode }),
      logs: `${result.stdout}${result.stderr}`.slice(-logCharsMax),
    });
    const stdout = storable(result.stdout);
    const stderr = storable(result.stderr);
    const truncated = result.truncated || stdout !== result.stdout || stderr !== result.stderr;
    const output = { stdout, stderr, truncated, duration_seconds: result.durationMs / 1000, sandbox: result.level };
    if (result.exitCode === 0) return { exit_code: 0, ...output };
    const end = result.exitCode === null ? `was ended by ${result.killedBy}` : `ended with exit code ${result.exitCode}`;
    const lastLines = stderr.trim().slice(-1000);
    throw new StepFailure('script_failed', `the script ${script} ${end}${lastLines === '' ? '' : `: ${lastLines}`}`, {
      retryable: true,
      details: { ...output, exit_code: result.exitCode, killed_by: result.killedBy, stdout: stdout.slice(-logCharsMax), stderr: stderr.slice(-logCharsMax) },
    });
  },
});

/** How a script is started: never through a shell, and by a path that no program takes for an option. */
async function programOf(directory: string, script: string, interpreter: string | undefined): Promise<string[]> {
  const names = await namesIn(directory, script);
  const path = `./${names.join('/')}`;
  if (interpreter !== undefined) return [interpreter, path];
  const file = await openFileBelow(directory, names).catch((error: unknown) => {
    throw refused(error, script);
  });
  const mode = await file.stat().finally(() => file.close());
  if ((mode.mode & 0o111) !== 0) return [path];
  const byExtension = interpreterOf[/\.([a-z]+)$/.exec(path)?.[1] ?? ''];
  if (byExtension === undefined) {
    throw new StepFailure('script_refused', `the script ${script} is not executable and its extension names no interpreter; name one with "interpreter"`, {
      retryable: false,
    });
  }
  return [byExtension, path];
}

async function namesIn(directory: string, script: string): Promise<string[]> {
  try {
    const names = namesOf(script);
    await (await openFileBelow(directory, names)).close();
    return names;
  } catch (error) {
    throw refused(error, script);
  }
}

function refused(error: unknown, script: string): unknown {
  if (error instanceof PathRefused) return new StepFailure('script_refused', `the script is refused: ${error.message}`, { retryable: false, cause: error });
  if ((error as NodeJS.ErrnoException).code === 'ENOENT')
    return new StepFailure('script_refused', `the script ${JSON.stringify(script.slice(0, 500))} does not exist`, { retryable: false, cause: error });
  return error;
}

/** Control characters take six characters each as JSON; only a text full of them is cut here. */
function storable(kept: string): string {
  const room = storedCharsMax / 2;
  let part = kept;
  while (JSON.stringify(part).length > room) part = part.slice(-Math.floor(part.length / 2));
  return part;
}

function text(charsMax: number): z.ZodString {
  return z
    .string()
    .max(charsMax)
    .regex(/^[^\0]*$/, 'NUL characters are not allowed');
}
