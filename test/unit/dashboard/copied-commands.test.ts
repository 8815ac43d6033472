import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { parseParameters } from '../../../cli/parameters.js';
import { commandOf, curlOf } from '../../../dashboard/copied-commands.js';
import { shownText, shownValue } from '../../../dashboard/shown-text.js';

const api = { origin: 'http://127.0.0.1:8080', apiKeyHeader: 'X-API-Key' };
const nasty = `it's "quoted" $(touch /tmp/x) \`id\` \\ $HOME\nsecond line; rm -rf / #`;
const task = {
  template: 'ollama-inference',
  name: `-n ${nasty}`,
  priority: 7,
  metadata: { team: nasty },
  parameters: { model: 'llama3.2', prompt: nasty, system_prompt: '@file', tries: 3, tags: ['a', "b'c"], nothing: null, flag: true },
};

/** What a shell hands to the programs of a command, and what they read. */
function ran(command: string): { words: string[]; input: string } {
  const stand = 'show() { for word in "$@"; do printf "%s\\0" "$word"; done; printf "\\1"; cat; }; curl() { show "$@"; }; orchestra() { show "$@"; }';
  const printed = execFileSync('sh', ['-c', `${stand}\n${command}\n`], {
    input: '',
    encoding: 'utf8',
    env: { PATH: process.env['PATH'], ORCHESTRA_KEY: 'key' },
  });
  const [words = '', input = ''] = printed.split('\u0001');
  return { words: words.split('\0').slice(0, -1), input };
}

test('a shell reads the curl command as the request that was made, whatever is in it [DASH-18, DASH-21]', () => {
  const { words } = ran(curlOf(task, api));
  expect(words.slice(0, -1)).toEqual([
    '-sS',
    'http://127.0.0.1:8080/api/v1/tasks',
    '-H',
    'X-API-Key: key',
    '-H',
    'Content-Type: application/json',
    '--data-raw',
  ]);
  const { template, parameters, priority, name, metadata } = task;
  expect(JSON.parse(words.at(-1) ?? '')).toEqual({ template, parameters, priority, name, metadata });
});

test('a shell and the command line read the command as the parameters that were given [DASH-18]', () => {
  const { words } = ran(commandOf(task));
  expect(words.slice(0, 2)).toEqual(['submit', 'ollama-inference']);
  const pairs = words.filter((_word, index) => words[index - 1] === '-p');
  const declared = Object.entries(task.parameters).map(([name, value]) => ({
    name,
    type: Array.isArray(value) ? ('array' as const) : ('string' as const),
    required: false,
  }));
  expect(parseParameters(pairs, declared)).toEqual(task.parameters);
  expect(words.slice(-3)).toEqual(['--priority', '7', `--name=${task.name}`]);
});

test('what is too long for an argument goes through standard input [DASH-18]', () => {
  const long = { ...task, name: 'ollama-inference', metadata: {}, parameters: { prompt: `${nasty}\nJSON\n${'x'.repeat(50_000)}` } };
  expect(JSON.parse(ran(curlOf(long, api)).input)).toEqual({ template: 'ollama-inference', parameters: long.parameters, priority: 7 });
  const command = ran(commandOf(long));
  expect(command.words).toEqual(['submit', 'ollama-inference', '--priority', '7', '--params', '-']);
  expect(JSON.parse(command.input)).toEqual(long.parameters);
});

test('a long value is cut, and never within a character [DASH-18]', () => {
  expect(shownText('abc', 3)).toEqual({ text: 'abc', left: 0 });
  expect(shownText('ab😀cd', 3)).toEqual({ text: 'ab', left: 4 });
  expect(shownValue({ a: 1 }, 100)).toEqual({ text: '{\n  "a": 1\n}', left: 0 });
});
