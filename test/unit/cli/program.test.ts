import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { completionScript } from '../../../cli/commands/completion.js';
import { describeFailure, exitCodes } from '../../../cli/failure.js';
import { createProgram } from '../../../cli/program.js';
import { ApiProblem, ApiUnreachable } from '../../../client/problem.js';

const program = createProgram({ cli: 'main.js', version: () => '1.2.3', main: () => Promise.reject(new Error('nothing is run here')) });
const problem = (status: number, code: string) =>
  new ApiProblem({ status, code, title: code, detail: `It is ${code}.`, errors: [], requestId: 'r-1', retryAfterSeconds: status === 429 ? 7 : null });

test.each([
  [problem(404, 'task_not_found'), exitCodes.notFound],
  [problem(409, 'task_finished'), exitCodes.failed],
  [problem(422, 'invalid_parameters'), exitCodes.usage],
  [problem(401, 'unauthorized'), exitCodes.unreachable],
  [problem(429, 'too_many_requests'), exitCodes.unreachable],
  [problem(503, 'unavailable'), exitCodes.unreachable],
  [new ApiUnreachable('http://127.0.0.1:1', 'does not answer (ECONNREFUSED)'), exitCodes.unreachable],
  [new Error('odd'), exitCodes.failed],
])('%s has the exit code %i', (error, code) => {
  const described = describeFailure(error, 'http://127.0.0.1:8080');
  expect(described.exitCode).toBe(code);
  expect(described.lines.join('\n')).not.toContain('    at ');
});

test('a refusal says what is wrong, what to do, and the id that the log has', () => {
  expect(describeFailure(problem(429, 'too_many_requests'), 'http://h').lines).toEqual([
    'It is too_many_requests. [too_many_requests] Try again in 7 s.',
    '  request r-1 to http://h',
  ]);
});

test('what a server answers cannot steer the terminal', () => {
  const error = new ApiProblem({
    status: 422,
    code: 'odd',
    title: 'Odd',
    detail: 'x\u001b]0;owned\u0007',
    errors: [{ path: 'a\u001b[2J', expected: 'b', got: 'c\r', message: '' }],
    requestId: null,
    retryAfterSeconds: null,
  });
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  expect(describeFailure(error, null).lines.join('')).not.toMatch(/[\u0000-\u001f]/);
});

/** What bash offers after some words. @param templates lines that `orchestra templates list` prints */
const complete = (words: readonly string[], { templates = '' }: { readonly templates?: string } = {}) =>
  execFileSync(
    'bash',
    [
      '--norc',
      '-c',
      `${completionScript(program, 'bash')}\norchestra() { printf '%s' "$TEMPLATES"; }\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _orchestra; printf '%s\\n' "\${COMPREPLY[@]}"`,
      'bash',
      'orchestra',
      ...words,
    ],
    { encoding: 'utf8', env: { PATH: process.env['PATH'], TEMPLATES: templates } },
  )
    .trim()
    .split('\n');

test('bash completes commands, options and subcommands', () => {
  expect(complete(['re'])).toEqual(expect.arrayContaining(['retry', 'replay', 'report']));
  expect(complete(['models', ''])).toEqual(expect.arrayContaining(['list', 'load', 'unload', 'pull']));
  expect(complete(['submit', '--w'])).toEqual(['--wait']);
});

test('bash completes after positional arguments, values of options and aliases', () => {
  expect(complete(['submit', 'ask-files', '--w'])).toEqual(['--wait']);
  expect(complete(['logs', '0123abcd', '--f'])).toEqual(['--follow']);
  expect(complete(['logs', 'list', '--f'])).toEqual(['--follow']);
  // bash takes a colon, and a sign of equality, for a word of its own.
  expect(complete(['--api', 'http', ':', '//127.0.0.1', ':', '8080', 'submit', '--w'])).toEqual(['--wait']);
  expect(complete(['--key', '=', 'list', 'submit', '--w'])).toEqual(['--wait']);
  expect(complete(['submit', '-p', 'list', '--w'])).toEqual(['--wait']);
  expect(complete(['ls', '--wat'])).toEqual(['--watch']);
  expect(complete(['submit', 'x', '--js'])).toEqual(['--json']);
  expect(complete(['submit', '--priority', ''])).toEqual(['']);
});

test('bash runs nothing of what an API calls its templates', () => {
  const folder = mkdtempSync(join(tmpdir(), 'completion-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const templates = ['ask-files\tlocal', `$(touch\${IFS}${folder}/one)\tlocal`, `\`touch\${IFS}${folder}/two\`\tlocal`, '${HOME}\tlocal', ''].join('\n');
  const offered = complete(['submit', ''], { templates });
  expect(offered).toContain('ask-files');
  expect(offered.filter((word) => !/^[A-Za-z0-9-]+$/.test(word))).toEqual([]);
  expect(readdirSync(folder)).toEqual([]);
});

test.each(['bash', 'zsh'])('the script for %s is one that the shell understands', (shell) => {
  execFileSync('bash', ['-n'], { input: completionScript(program, shell) ?? 'fi' });
});

test('every command says what it does', () => {
  const silent = (command: typeof program, path: string): string[] =>
    command.commands.flatMap((sub) => [
      ...(sub.description() === '' ? [`${path} ${sub.name()}`] : []),
      ...silent(sub as typeof program, `${path} ${sub.name()}`),
    ]);
  expect(silent(program, 'orchestra')).toEqual([]);
});
