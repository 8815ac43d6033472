import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatAs, formatOutput } from '../../../activities/steps/format-output.js';

test('an unknown format is refused when the template is read [bad-45, TPL-14]', () => {
  expect(formatOutput.input.safeParse({ format: 'xml' }).success).toBe(false);
  expect(formatOutput.input.safeParse({ format: 'json', extra: 1 }).success).toBe(false);
});

test('any data is formatted in every format, and JSON is read back as it was [TPL-14]', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      for (const format of ['markdown', 'text', 'csv'] as const) expect(typeof formatAs(format, value)).toBe('string');
      expect(JSON.parse(formatAs('json', value))).toEqual(JSON.parse(JSON.stringify(value)));
    }),
  );
});

test('the text of a step is its Markdown and its plain text as it is, whatever it contains [bad-45]', () => {
  const text = '</script><script>alert(1)</script> ![](https://evil.example/?q=1) {"broken": ';
  for (const format of ['markdown', 'text'] as const) expect(formatAs(format, { text, tokens: 3 })).toBe(text);
});

test('a list of objects is a table', () => {
  const rows = [
    { name: 'a|b', n: 1 },
    { name: 'x\ny', other: null },
  ]; // prettier-ignore
  expect(formatAs('markdown', rows)).toBe('| name | n | other |\n| --- | --- | --- |\n| a\\|b | 1 |  |\n| x y |  |  |');
  expect(formatAs('csv', rows)).toBe('name,n,other\r\na|b,1,\r\n"x\ny",,\r\n');
  expect(formatAs('csv', { files: rows })).toBe(formatAs('csv', rows));
});

test('objects are lists of what they hold', () => {
  expect(formatAs('markdown', { title: 'Report', items: [1, 'two'], none: {} })).toBe('- **title**: Report\n- **items**:\n  - 1\n  - two\n- **none**: ');
  expect(formatAs('text', { title: 'Report', items: [1, 'two\nlines'] })).toBe('title: Report\nitems:\n  - 1\n  - two\n    lines');
});

test.each(['=1+1', '+1', '-1+1', '@SUM(A1)', '\t=1', '\r=1', ' =1', "=cmd|' /C calc'!A0"])('%j is no formula in a CSV file', (text) => {
  expect(
    formatAs('csv', [{ a: text }])
      .split('\r\n')
      .slice(1)
      .join('\r\n'),
  ).toMatch(/^"?'/);
});

test('numbers stay numbers in CSV', () => {
  expect(formatAs('csv', [[-1, 2.5]])).toBe('-1,2.5\r\n');
});

test('deep data does not exhaust the stack', () => {
  let deep: unknown = 1;
  for (let depth = 0; depth < 1000; depth += 1) deep = { in: [deep] };
  expect(formatAs('markdown', deep)).toContain('**in**');
});
