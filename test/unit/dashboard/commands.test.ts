import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { parseParameters } from '../../../cli/parameters.js';
import { shownText, shownValue } from '../../../dashboard/shown-text.js';

interface Commands {
  curlOf(request: object, api: { readonly origin: string; readonly apiKeyHeader: string }): string;
  commandOf(request: object, origin: string): string | null;
}

/** The script of the pages, in a window of its own. */
function commands(): Commands {
  const window: { orchestraCommands?: Commands } = {};
  runInNewContext(readFileSync(new URL('../../../dashboard/browser/commands.js', import.meta.url), 'utf8'), { window });
  if (window.orchestraCommands === undefined) throw new Error('the script gave nothing');
  return window.orchestraCommands;
}

const { curlOf, commandOf } = commands();
const origin = 'https://tasks.example.com';
const api = { origin, apiKeyHeader: 'X-Team-Key' };
const nasty = `it's "quoted" $(touch /tmp/x) \`id\` \\ $HOME\nsecond line; rm -rf / #`;
const task = {
  template: 'ollama-inference',
  name: `-n ${nasty}`,
  description: nasty,
  priority: 7,
  metadata: { team: nasty },
  parameters: { model: 'llama3.2', prompt: nasty, system_prompt: '@file', tries: 3, tags: ['a', "b'c"], nothing: null, flag: true },
  depends_on: ['8f14e45f-ceea-467f-a0e6-7c1f9d2b3a44', '3f0c1f3e-5b7e-4f0e-8a43-6f3d4f1c9a10'],
  resource_requirements: { cpu_cores: 2, gpu_count: 0, locks: ['deploy-staging', 'b'], resources: { licences: 1.5 } },
  retry: { max_attempts: 4 },
  agent_assigned: "ann's/writer",
};

/** What a shell hands to the programs of a command, and what they read. */
function ran(command: string | null): { words: string[]; input: string } {
  const stand = 'show() { for word in "$@"; do printf "%s\\0" "$word"; done; printf "\\1"; cat; }; curl() { show "$@"; }; npx() { show "$@"; }';
  const printed = execFileSync('sh', ['-c', `${stand}\n${command}\n`], {
    input: '',
    encoding: 'utf8',
    env: { PATH: process.env['PATH'], ORCHESTRA_KEY: 'key' },
  });
  const [words = '', input = ''] = printed.split('\u0001');
  return { words: words.split('\0').slice(0, -1), input };
}

test('a shell reads the curl command as the request that was made, whatever is in it, with the configured header [DASH-18, DASH-21]', () => {
  const { words } = ran(curlOf(task, api));
  expect(words.slice(0, -1)).toEqual([
    '-sS',
    'https://tasks.example.com/api/v1/tasks',
    '-H',
    'X-Team-Key: key',
    '-H',
    'Content-Type: application/json',
    '--data-raw',
  ]);
  expect(JSON.parse(words.at(-1) ?? '')).toEqual(task);
});

test('a shell and the command line read the command as what was given: parameters, dependencies, locks, amounts, attempts, metadata [DASH-18]', () => {
  const { words } = ran(commandOf(task, origin));
  expect(words.slice(0, 5)).toEqual(['orchestra', '--api', origin, 'submit', 'ollama-inference']);
  const after = (option: string) => words.filter((_word, index) => words[index - 1] === option);
  const declared = Object.entries(task.parameters).map(([name, value]) => ({
    name,
    type: Array.isArray(value) ? ('array' as const) : ('string' as const),
    required: false,
  }));
  expect(parseParameters(after('-p'), declared)).toEqual(task.parameters);
  expect(after('--priority')).toEqual(['7']);
  expect(after('--depends-on')).toEqual(task.depends_on);
  expect(after('--lock')).toEqual(['deploy-staging', 'b']);
  expect(after('--needs')).toEqual(['cpu=2', 'gpu=0', 'licences=1.5']);
  expect(after('--retry-attempts')).toEqual(['4']);
  for (const [option, value] of [
    ['name', task.name],
    ['description', nasty],
    ['metadata', JSON.stringify(task.metadata)],
    ['agent', task.agent_assigned],
  ])
    expect(words).toContain(`--${option}=${value}`);
});

test.each([{ limits: { timeout_seconds: 5 } }, { retry: { max_attempts: 2, initial_seconds: 1 } }])(
  'for %j, for which the command line has no words, there is no command',
  (more) => {
    expect(commandOf({ template: 't', ...more }, origin)).toBeNull();
    expect(JSON.parse(ran(curlOf({ template: 't', ...more }, api)).words.at(-1) ?? '')).toEqual({ template: 't', ...more });
  },
);

test('what is too long for an argument goes through standard input [DASH-18]', () => {
  const long = { template: 'ollama-inference', parameters: { prompt: `${nasty}\nJSON\n${'x'.repeat(50_000)}` }, priority: 7 };
  expect(JSON.parse(ran(curlOf(long, api)).input)).toEqual(long);
  const command = ran(commandOf(long, origin));
  expect(command.words).toEqual(['orchestra', '--api', origin, 'submit', 'ollama-inference', '--priority', '7', '--wait', '--params', '-']);
  expect(JSON.parse(command.input)).toEqual(long.parameters);
});

test('a long value is cut, and never within a character [DASH-18]', () => {
  expect(shownText('abc', 3)).toEqual({ text: 'abc', left: 0 });
  expect(shownText('ab😀cd', 3)).toEqual({ text: 'ab', left: 4 });
  expect(shownValue({ a: 1 }, 100)).toEqual({ text: '{\n  "a": 1\n}', left: 0 });
});
