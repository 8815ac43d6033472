import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import { Interrupted, usageFault } from './failure.js';

/** Where a password is asked for or read from; tests give their own. */
export interface PasswordSource {
  readonly input: NodeJS.ReadableStream & { readonly isTTY?: boolean };
  readonly prompts: NodeJS.WritableStream;
}

/** More than any password has; what comes behind it is not read. */
const charactersMax = 1_000;

/**
 * A new password: typed twice without being shown, or the first line of standard input where that is no terminal. Never an argument, which everybody on the machine sees.
 * @throws {CliFailure} when there is none, or the two differ
 */
export async function askNewPassword(user: string, { input, prompts }: PasswordSource = { input: process.stdin, prompts: process.stderr }): Promise<string> {
  const password = input.isTTY === true ? await typedTwice(user, input, prompts) : await firstLine(input);
  if (password === '') throw usageFault('No password came: type one, or send it to standard input.');
  return password;
}

async function typedTwice(user: string, input: NodeJS.ReadableStream, prompts: NodeJS.WritableStream): Promise<string> {
  // What is typed would be shown on its output, so that this has none.
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input, output: nowhere, terminal: true, historySize: 0 });
  const stopped = new Promise<never>((_resolve, reject) => {
    lines.once('SIGINT', () => reject(new Interrupted('No password was set.')));
    lines.once('close', () => reject(new Interrupted('No password was set.')));
  });
  stopped.catch(() => {}); // closed in the end in any case
  const ask = async (prompt: string) => {
    prompts.write(prompt);
    const answer = await Promise.race([lines.question(''), stopped]);
    prompts.write('\n');
    return answer;
  };
  try {
    const first = await ask(`New password of ${user}: `);
    if ((await ask('Once more: ')) !== first) throw usageFault('The two passwords differ.');
    return first;
  } finally {
    lines.close();
  }
}

async function firstLine(input: NodeJS.ReadableStream): Promise<string> {
  let text = '';
  for await (const chunk of input) {
    text += String(chunk);
    if (text.includes('\n') || text.length > charactersMax) break;
  }
  return text.split(/\r?\n/, 1)[0] ?? '';
}
