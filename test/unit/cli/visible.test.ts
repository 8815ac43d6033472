import { expect, test } from 'vitest';
import fc from 'fast-check';
import { columnsOf, fit, visibleJson, visibleLine, visibleText } from '../../../cli/visible.js';

const controls = ['\u001b', '\u009b', '\u0007', '\u0000', '\u007f', '\u202e', '\u2066', '\u200f', '\ufeff'];
const hostile = fc.string({ unit: fc.constantFrom(...controls, '\n', '\r', '\t', 'a', ']', '5', '2', ';', 'é', '漢', '"', '\\'), maxLength: 60 });

test('what a terminal would obey is spelled out', () => {
  expect(visibleLine('\u001b]52;c;cm0gLXJm\u0007 \u009b2J')).toBe('\\x1b]52;c;cm0gLXJm\\x07 \\x9b2J');
  expect(visibleText('a\r\nb\u001b[2K\rc')).toBe('a\nb\\x1b[2K\nc');
  expect(visibleLine('abc\u202etxt.exe')).toBe('abc\\u202etxt.exe');
});

test('nothing that a terminal would obey gets through, whatever the text', () => {
  const obeyed = /[\p{Cc}\u202a-\u202e\u2066-\u2069\u200e\u200f\ufeff]/u;
  fc.assert(
    fc.property(hostile, (text) => {
      expect(visibleLine(text)).not.toMatch(obeyed);
      expect(visibleText(text).replace(/[\n\t]/g, '')).not.toMatch(obeyed);
      expect(visibleJson({ text }).replaceAll('\n', '')).not.toMatch(obeyed);
      expect(JSON.parse(visibleJson({ text }))).toEqual({ text });
    }),
  );
});

test('a text is cut by the columns it takes', () => {
  expect(columnsOf('漢字')).toBe(4);
  expect(fit('漢字漢字', 5)).toBe('漢字…');
  fc.assert(
    fc.property(
      fc.string({ unit: 'grapheme', maxLength: 40 }),
      fc.integer({ min: 1, max: 30 }),
      (text, columns) => columnsOf(fit(visibleLine(text), columns)) <= columns,
    ),
  );
});
