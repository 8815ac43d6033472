/**
 * A line of CSV as RFC 4180 has it, in UTF-8 without a byte order mark: programs that read a report would find it in the name of the first column, and
 * spreadsheets ask for the encoding, or take UTF-8, where a file is imported. A text that a spreadsheet would take for a formula, full-width signs included,
 * begins with an apostrophe, which it does not show (https://owasp.org/www-community/attacks/CSV_Injection); numbers stay numbers.
 */
export function csvLine(cells: readonly (string | number | null)[]): string {
  return `${cells.map(csvCell).join(',')}\r\n`;
}

function csvCell(value: string | number | null): string {
  if (value === null) return '';
  if (typeof value === 'number') return String(value);
  const text = /^[=+\-@\t\r\n＝＋－＠]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
