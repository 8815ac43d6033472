import { PassThrough } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { askNewPassword } from '../../../cli/ask-password.js';
import { createProgram } from '../../../cli/program.js';
import { runCommand } from './run-command.js';

const ann = { id: 'ann', role: 'user', disabled: false, created_at: '2026-01-09T10:30:00.000Z' };

describe('a new password', () => {
  /** Types each line when it is asked for. */
  async function typed(lines: readonly string[]): Promise<{ answer: Promise<string>; shown: () => string }> {
    const input = Object.assign(new PassThrough(), { isTTY: true });
    const prompts = new PassThrough();
    let shown = '';
    prompts.on('data', (chunk: Buffer) => {
      shown += chunk.toString();
    });
    const answer = askNewPassword('ann', { input, prompts });
    answer.catch(() => {}); // looked at by the test
    for (const line of lines) {
      await turn();
      input.write(line);
    }
    return { answer, shown: () => shown };
  }

  test('is typed twice and never shown [SEC-13]', async () => {
    const { answer, shown } = await typed(['correct horse\r', 'correct horse\r']);
    expect(await answer).toBe('correct horse');
    expect(shown()).toBe('New password of ann: \nOnce more: \n');
  });

  test('that is typed differently the second time is none', async () => {
    const { answer } = await typed(['correct horse\r', 'correct house\r']);
    await expect(answer).rejects.toThrow('differ');
  });

  test('is not set after Ctrl-C', async () => {
    const { answer } = await typed(['correct\u0003']);
    await expect(answer).rejects.toMatchObject({ exitCode: 130 });
  });

  test.each([
    ['correct horse\n', 'correct horse'],
    ['correct horse\r\nnext line', 'correct horse'],
    [' with spaces ', ' with spaces '],
  ])('is the first line of standard input where that is no terminal: %j', async (text, expected) => {
    const input = new PassThrough();
    input.end(text);
    expect(await askNewPassword('ann', { input, prompts: new PassThrough() })).toBe(expected);
  });

  test('that does not come is said', async () => {
    const input = new PassThrough();
    input.end('');
    await expect(askNewPassword('ann', { input, prompts: new PassThrough() })).rejects.toThrow('No password came');
  });
});

test('users are listed, changed and removed [SEC-05]', async () => {
  const listed = await runCommand(['users', 'list'], { answer: () => ({ items: [ann] }) });
  expect(listed.out).toBe('ann\tuser\tmay sign in\t2026-01-09T10:30:00.000Z\n');
  for (const [args, body, told] of [
    [['role', 'ann', 'viewer'], { role: 'viewer' }, 'ann has the role viewer.'],
    [['disable', 'ann'], { disabled: true }, 'signs in no more'],
    [['enable', 'ann'], { disabled: false }, 'may sign in again'],
  ] as const) {
    const ran = await runCommand(['users', ...args], { answer: () => ann });
    expect(ran.sent).toMatchObject([{ method: 'PATCH', path: '/users/ann', body }]);
    expect([ran.code, ran.err]).toEqual([0, expect.stringContaining(told)]);
  }
  const removed = await runCommand(['users', 'remove', 'ann'], { answer: () => new Response(null, { status: 204 }) });
  expect(removed).toMatchObject({ code: 0, sent: [{ method: 'DELETE', path: '/users/ann' }] });
});

test('a password is no argument of any command [SEC-13]', () => {
  const users = createProgram({ cli: 'main.js', version: () => '1', main: async () => {} }).commands.find((command) => command.name() === 'users');
  const words = users?.commands.flatMap((command) => [
    ...command.options.map(({ flags }) => flags),
    ...command.registeredArguments.map((argument) => argument.name()),
  ]);
  expect(words?.filter((word) => /pass/i.test(word))).toEqual([]);
});

test('the dashboard is opened by an address that works once [DASH-15]', async () => {
  const ticket = { ticket: 'ort_x', expires_at: '2026-01-09T10:40:00.000Z' };
  const { out, sent, code } = await runCommand(['dashboard'], { answer: () => ticket });
  expect([code, sent[0]?.method, sent[0]?.path]).toEqual([0, 'POST', '/sign-in-tickets']);
  expect(out).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/sign-in#ticket=ort_x\n$/);
  const json = JSON.parse((await runCommand(['--json', 'dashboard'], { answer: () => ticket })).out) as object;
  expect(json).toMatchObject({ url: expect.stringContaining('/sign-in#ticket=ort_x'), expires_at: ticket.expires_at });
});
