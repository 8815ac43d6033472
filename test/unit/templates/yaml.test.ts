import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { parseYaml, yamlBytesMax } from '../../../templates/yaml.js';

function faults(text: string): string[] {
  const result = parseYaml('f.yaml', text);
  return 'faults' in result ? result.faults.map((fault) => fault.message) : [];
}

function value(text: string): unknown {
  const result = parseYaml('f.yaml', text);
  if ('faults' in result) throw new Error(result.faults[0]?.message);
  return result.yaml.value;
}

test('2 KB of brackets parsed twice leave the process alive [bad-21]', () => {
  const module = new URL('../../../templates/yaml.ts', import.meta.url).href;
  const script = `
    import { parseYaml } from ${JSON.stringify(module)};
    const text = '['.repeat(1000) + ']'.repeat(1000);
    const first = parseYaml('f.yaml', text), second = parseYaml('f.yaml', text);
    console.log('alive', first.faults.length, second.faults.length);`;
  const child = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', script], { encoding: 'utf8' });
  expect({ stdout: child.stdout.trim(), status: child.status, signal: child.signal }).toEqual({ stdout: 'alive 1 1', status: 0, signal: null });
});

test.each([
  ['brackets', '['.repeat(1000) + ']'.repeat(1000)],
  ['braces', '{a: '.repeat(500)],
  ['lists on one line', `${'- '.repeat(3000)}x`],
  ['explicit keys', `${'? '.repeat(3000)}x`],
  ['indentation', Array.from({ length: 200 }, (_, index) => `${' '.repeat(index)}a:`).join('\n')],
])('nesting by %s is bounded before the parser sees it [bad-21]', (_kind, text) => {
  expect(faults(text)).toEqual([expect.stringMatching(/^f\.yaml:\d+:\d+: nested more than 64 levels deep$/)]);
});

test('64 levels and text in a block scalar that looks nested are fine', () => {
  expect(value(`a: ${'['.repeat(60)}1${']'.repeat(60)}`)).toBeDefined();
  expect(value(`a: |\n  ${'['.repeat(500)}\nb: 1`)).toEqual({ a: `${'['.repeat(500)}\n`, b: 1 });
});

test('what is not plain data is refused with its place [bad-22]', () => {
  const bad = {
    'too large': `a: "${'x'.repeat(yamlBytesMax)}"`,
    'too many tokens': `a: [${'1,'.repeat(30_000)}]`,
    'two documents': 'a: 1\n---\nb: 2\n',
    'duplicate key': 'a: 1\nb:\n  c: 1\n  c: 2',
    'known tag': 'a: !!str 1',
    'function tag': 'a: 1\nb: !!js/function "x"',
    directive: '%YAML 1.1\n---\na: yes',
    'merge key': 'x: &x { a: 1 }\ny:\n  <<: *x',
    prototype: 'a:\n  __proto__: { x: 1 }',
    'number as key': '1: a',
    'list as key': '? [a]\n: b',
    'unknown alias': 'a: *x',
    'alias of itself': 'a: &b [*b]',
    'many aliases': `a: &a 1\nb: [${Array.from({ length: 17 }, () => '*a').join(', ')}]`,
    'alias bomb': `a: &a [${'x,'.repeat(2000)}]\nb: [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]`,
    infinity: 'a: .inf',
    'inexact number': 'a: 9007199254740993',
    tab: 'a:\n\tb: 1',
    'open quote': 'a: "b',
    NUL: 'a: b\0c',
    empty: '# nothing\n',
  };
  expect(Object.fromEntries(Object.entries(bad).map(([name, text]) => [name, faults(text)]))).toMatchInlineSnapshot(`
    {
      "NUL": [
        "f.yaml:1:5: a NUL character",
      ],
      "alias bomb": [
        "f.yaml:1:1: more than 20000 values once the aliases are followed",
      ],
      "alias of itself": [
        "f.yaml:1:8: alias *b stands inside the value it names",
      ],
      "directive": [
        "f.yaml:1:1: YAML directives (%) are not used in templates",
      ],
      "duplicate key": [
        "f.yaml:4:3: map keys must be unique",
      ],
      "empty": [
        "f.yaml:1:1: the file is empty, a template was expected",
      ],
      "function tag": [
        "f.yaml:2:4: tag !!js/function is not allowed",
      ],
      "inexact number": [
        "f.yaml:1:4: 9007199254740993 is too large to be exact; put it in quotes",
      ],
      "infinity": [
        "f.yaml:1:4: .inf is not a number that JSON has",
      ],
      "known tag": [
        "f.yaml:1:4: tag !!str is not allowed",
      ],
      "list as key": [
        "f.yaml:1:3: a key has to be a string",
      ],
      "many aliases": [
        "f.yaml:2:69: more than 16 aliases",
      ],
      "merge key": [
        "f.yaml:3:3: merge keys (<<) are not supported",
      ],
      "number as key": [
        "f.yaml:1:1: key 1 has to be a string; put it in quotes",
      ],
      "open quote": [
        "f.yaml:1:6: missing closing "quote",
      ],
      "prototype": [
        "f.yaml:2:3: key "__proto__" is not allowed",
      ],
      "tab": [
        "f.yaml:2:1: tabs are not allowed as indentation",
      ],
      "too large": [
        "f.yaml:1:1: the file has 65541 bytes; a template may have at most 65536",
      ],
      "too many tokens": [
        "f.yaml:1:6667: more than 10000 YAML tokens",
      ],
      "two documents": [
        "f.yaml:2:1: a second YAML document; a file holds exactly one template",
      ],
      "unknown alias": [
        "f.yaml:1:4: alias *x has no anchor before it",
      ],
    }
  `);
});

test('an expression without quotes is told to be quoted [TPL-18]', () => {
  for (const text of ['repo: {{repo_url}}', 'repo: {{ repo_url }}/x', 'files: [{{a}}, b]', '- {{ a.b|upper }}']) {
    expect(faults(text)[0]).toMatch(/^f\.yaml:1:\d+: .*write "\{\{ \.\.\. \}\}" with quotes/);
  }
});

test('aliases of scalars and maps are followed', () => {
  expect(value('a: &a { x: 1 }\nb: *a\nc: [*a]')).toEqual({ a: { x: 1 }, b: { x: 1 }, c: [{ x: 1 }] });
});
