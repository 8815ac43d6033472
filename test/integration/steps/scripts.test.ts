import { execFileSync } from 'node:child_process';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { StepContext } from '../../../activities/steps/define-step.js';
import { executeScript } from '../../../activities/steps/execute-script.js';
import { gitClone } from '../../../activities/steps/git-clone.js';
import { storeResult } from '../../../activities/steps/store-result.js';
import { git } from '../git/served-repository.js';
import { type OwnContext, stepContext } from './step-context.js';

let context: OwnContext;
beforeEach(async () => {
  context = await stepContext();
});
afterEach(() => context.remove());

const execute = (input: Record<string, unknown>, changes: Partial<StepContext> = {}) =>
  executeScript.run(executeScript.input.parse(input), { ...context, ...changes } as StepContext);
const script = (name: string, text: string, mode = 0o644): Promise<void> => writeFile(join(context.workspace, name), text, { mode });

test('a repository is cloned, its script run, and the result stored [TPL-05]', async () => {
  const source = join(context.home, 'source');
  await mkdir(join(source, 'scripts'), { recursive: true });
  git(source, 'init', '-q');
  await writeFile(join(source, 'scripts/greet.sh'), '#!/bin/sh\necho "hello $1 from $(basename "$PWD")"\n', { mode: 0o755 });
  git(source, 'add', '.');
  git(source, 'commit', '-qm', 'script');

  const cloned = await gitClone.run(gitClone.input.parse({ repo: `file://${source}` }), context);
  expect(cloned).toMatchObject({ commit: git(source, 'rev-parse', 'HEAD'), path: 'repository' });
  const output = await execute({ script: 'scripts/greet.sh', args: ['you; id'] });
  expect(executeScript.output.parse(output)).toMatchObject({
    exit_code: 0,
    stdout: 'hello you; id from repository\n',
    stderr: '',
    truncated: false,
    sandbox: 'bwrap',
  });
  expect(context.usage).toEqual([expect.objectContaining({ exitCode: 0, logs: 'hello you; id from repository\n' })]);

  const stored = await storeResult.run({ path: 'out/greeting.txt' }, { ...context, previous: output } as StepContext);
  expect(stored).toMatchObject({ path: `${context.taskId}/out/greeting.txt`, size_bytes: 30 });
  expect(await readFile(join(context.resultsRoot, stored.path), 'utf8')).toBe(output.stdout);
});

test.each([
  ['run.sh', 'echo shell', 'shell'],
  ['run.py', 'print("python")', 'python'],
  ['run.js', 'console.log("node")', 'node'],
])('%s runs by its extension', async (name, text, said) => {
  await script(name, text);
  expect((await execute({ script: name })).stdout).toBe(`${said}\n`);
});

test('an interpreter that is named wins, and the environment is what the step says [TPL-09]', async () => {
  await script('run', 'import os; print(os.environ["LEVEL"])');
  expect((await execute({ script: 'run', interpreter: 'python3', env: { LEVEL: '3' } })).stdout).toBe('3\n');
});

test('a script that fails fails the step, with its exit code and its last words [TPL-09]', async () => {
  await script('run.sh', 'echo out; echo "no such thing" >&2; exit 3');
  await expect(execute({ script: 'run.sh' })).rejects.toMatchObject({
    code: 'script_failed',
    message: expect.stringContaining('exit code 3: no such thing'),
    details: { exit_code: 3, stdout: 'out\n' },
  });
  expect(context.usage).toEqual([expect.objectContaining({ exitCode: 3 })]);
});

test('a failure carries the end of what was printed, never all of it', async () => {
  await script('run.sh', 'head -c 300000 /dev/zero | tr "\\0" x; echo end; exit 1');
  const failure = (await execute({ script: 'run.sh' }).catch((error: unknown) => error)) as { details: { stdout: string } };
  expect(failure.details.stdout).toHaveLength(16_000);
  expect(failure.details.stdout).toMatch(/xend\n$/);
});

test.each(['../outside.sh', '/bin/sh', 'absent.sh', 'link.sh', 'directory', 'linked/run.sh', 'plain.txt', 'fifo', 'a;b', '-c', 'x\0.sh', 'a/../../x'])(
  'the script %j is refused [bad-25]',
  async (name) => {
    execFileSync('mkfifo', [join(context.workspace, 'fifo')]);
    await writeFile(join(context.home, 'outside.sh'), 'echo escaped');
    await symlink('../outside.sh', join(context.workspace, 'link.sh'));
    await mkdir(join(context.workspace, 'directory'));
    await symlink('directory', join(context.workspace, 'linked'));
    await script('directory/run.sh', 'echo linked');
    await script('plain.txt', 'echo text');
    await expect(execute({ script: name })).rejects.toMatchObject({ code: 'script_refused', retryable: false });
  },
);

test('a script named like an option is a script', async () => {
  await script('-c.sh', 'echo "$0"');
  expect((await execute({ script: '-c.sh' })).stdout).toBe('./-c.sh\n');
});

test.each([
  ['timeout_seconds', 'sleep 60', { timeoutMs: 300 }],
  ['output_bytes', 'yes', { outputBytes: 100_000 }],
  ['memory_gb', 'exec python3 -c "bytearray(50 << 30)"', { memoryBytes: 200e6 }],
  ['disk_gb', 'head -c 9000000 /dev/zero > big', { diskBytes: 1_000_000 }],
])('passing the limit %s fails the step with that name [TASK-16]', async (limit, text, limits) => {
  await script('run.sh', text);
  await expect(execute({ script: 'run.sh' }, { limits: { ...context.limits, ...limits } })).rejects.toMatchObject({
    code: 'limit_exceeded',
    details: { limit },
  });
});

test('control characters by the hundred thousand still make a result that can be stored', async () => {
  await script('run.sh', 'head -c 400000 /dev/zero | tr "\\0" "\\001"; head -c 400000 /dev/zero | tr "\\0" "\\001" >&2');
  const output = await execute({ script: 'run.sh' });
  expect(JSON.stringify(output).length).toBeLessThan(2_000_000);
  expect(output.truncated).toBe(true);
});

test('twenty tasks with the same script and the same names do not meet [CONC-11]', async () => {
  const outputs = await Promise.all(
    Array.from({ length: 20 }, async (_, n) => {
      const workspace = join(context.home, `w${n}`);
      await mkdir(workspace, { mode: 0o700 });
      await writeFile(
        join(workspace, 'run.sh'),
        'test ! -e mark && test ! -e /tmp/mark && echo "$1" | tee mark > /tmp/mark && sleep 0.2 && cat mark /tmp/mark',
      );
      return execute({ script: 'run.sh', args: [String(n)] }, { workspace, signal: new AbortController().signal });
    }),
  );
  expect(outputs.map(({ stdout }) => stdout)).toEqual(Array.from({ length: 20 }, (_, n) => `${n}\n${n}\n`));
});
