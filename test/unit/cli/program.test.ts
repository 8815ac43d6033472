import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
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

test('bash completes commands, options and subcommands', () => {
  const complete = (...words: string[]) =>
    execFileSync(
      'bash',
      [
        '-c',
        `${completionScript(program, 'bash')}\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _orchestra; printf '%s\\n' "\${COMPREPLY[@]}"`,
        'bash',
        'orchestra',
        ...words,
      ],
      {
        encoding: 'utf8',
      },
    )
      .trim()
      .split('\n');
  expect(complete('re')).toEqual(expect.arrayContaining(['retry', 'replay', 'report']));
  expect(complete('models', '')).toEqual(expect.arrayContaining(['list', 'load', 'unload', 'pull']));
  expect(complete('submit', '--w')).toEqual(['--wait']);
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
