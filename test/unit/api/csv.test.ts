import { expect, test } from 'vitest';
import { csvLine } from '../../../api/csv.js';

test.each(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'])('a text that begins with %j is no formula for a spreadsheet [DASH-16]', (sign) => {
  const quoted = /[\r\n]/.test(sign);
  expect(csvLine([`${sign}SUM(A1)`])).toBe(quoted ? `"'${sign}SUM(A1)"\r\n` : `'${sign}SUM(A1)\r\n`);
  expect(csvLine([`a${sign}b`])).toBe(quoted ? `"a${sign}b"\r\n` : `a${sign}b\r\n`); // within a text it is harmless
});

test('numbers stay numbers, nothing stays nothing, and quotes and commas are kept [DASH-16]', () => {
  expect(csvLine([-1.5, 0, null, 'say "a, b"', ''])).toBe('-1.5,0,,"say ""a, b""",\r\n');
});
