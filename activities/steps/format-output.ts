import { z } from 'zod';
import { failureCodes, StepFailure } from '../../contract/failure.js';
import { defineStep } from './define-step.js';
import { inertInline, inertMarkdown } from './inert-markdown.js';

const MINUTE_MS = 60_000;
const formats = ['json', 'markdown', 'text', 'csv'] as const;

export const formatOutput = defineStep({
  type: 'format_output',
  summary: 'Turn a result into JSON, Markdown, plain text or CSV.',
  input: z.strictObject({
    format: z.enum(formats).describe('What to make of the data'),
    data: z.json().optional().describe('What to format; the result of the step before when left out'),
  }),
  output: z.object({ text: z.string().describe('The formatted text'), format: z.enum(formats).describe('Its format') }),
  policy: { pool: 'general', startToCloseMs: MINUTE_MS, attempts: 3 },
  example: '- { type: format_output, format: markdown, data: { title: Report, items: [1, 2] } }',
  async run({ format, data }, { previous, limits }) {
    const value: unknown = data ?? previous;
    if (value === null || value === undefined)
      throw new StepFailure(failureCodes.invalidInput, 'format_output has neither data nor a step before it', { retryable: false });
    const text = formatAs(format, value);
    if (Buffer.byteLength(text) > limits.outputBytes) {
      throw new StepFailure(failureCodes.limitExceeded, `the formatted text has more than ${limits.outputBytes} bytes`, {
        retryable: false,
        details: { limit: 'output_bytes' },
      });
    }
    return { text, format };
  },
});

/**
 * Writes plain JSON data in a format. Cells of CSV are no formulas, and Markdown loads nothing and runs nothing; JSON and plain text are data for
 * whoever shows them.
 */
export function formatAs(format: (typeof formats)[number], value: unknown): string {
  switch (format) {
    case 'json':
      return JSON.stringify(value, null, 2);
    case 'csv':
      return csv(value);
    case 'markdown':
      return markdown(essence(value), 0);
    case 'text':
      return plain(essence(value), 0);
  }
}

type Row = Readonly<Record<string, unknown>>;

/** Of a step's result the part that a person reads: its text, when it has one. */
function essence(value: unknown): unknown {
  return isRow(value) && typeof value.text === 'string' ? value.text : value;
}

function markdown(value: unknown, depth: number): string {
  if (Array.isArray(value) && value.length > 0 && value.every(isFlatRow)) return markdownTable(value);
  // A result that is one text is Markdown already. Whose text it is nobody knows here: it is made inert.
  if (typeof value === 'string') return depth === 0 ? inertMarkdown(value) : inertInline(value);
  return entries(value, depth, (key) => `**${escapeMarkdown(key)}**`, '- ', markdown);
}

function plain(value: unknown, depth: number): string {
  return entries(value, depth, (key) => key, '', plain);
}

/** Nesting beyond this is shown as JSON: a reader is lost there, and the stack would be. */
const depthMax = 20;

function entries(value: unknown, depth: number, name: (key: string) => string, bullet: string, render: (value: unknown, depth: number) => string): string {
  if (typeof value === 'string') return value;
  if (typeof value !== 'object' || value === null || depth >= depthMax) return JSON.stringify(value) ?? '';
  const indent = '  '.repeat(depth);
  const lines = Array.isArray(value)
    ? value.map((item) => [bullet === '' ? '-' : bullet.trim(), item] as const)
    : Object.entries(value).map(([key, item]) => [`${bullet}${name(key)}:`, item] as const);
  return lines
    .map(([label, item]) => {
      const nested = typeof item === 'object' && item !== null && Object.keys(item).length > 0;
      const body = render(item, depth + 1);
      // Continuation lines stay inside their item.
      return nested ? `${indent}${label}\n${body}` : `${indent}${label} ${body.replaceAll('\n', `\n${indent}  `)}`;
    })
    .join('\n');
}

function markdownTable(rows: readonly Row[]): string {
  const columns = columnsOf(rows);
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const cell = (value: unknown): string => escapeMarkdown(scalar(value)).replaceAll('|', '\\|').replaceAll(/\r?\n/g, ' ');
  return [line(columns.map(cell)), line(columns.map(() => '---')), ...rows.map((row) => line(columns.map((column) => cell(row[column]))))].join('\n');
}

/** Angle brackets and image marks in names and cells stay visible text. */
function escapeMarkdown(text: string): string {
  return text.replaceAll(/[\\`*_<>[\]!]/g, '\\$&');
}

/** CSV as RFC 4180 says. A list of objects is a table; so is the one list inside a step's result, such as `files` of `read_files`. */
function csv(value: unknown): string {
  const rows = rowsOf(value);
  const columns = rows.every(isRow) ? columnsOf(rows) : null;
  const lines =
    columns === null ? rows.map((row) => (Array.isArray(row) ? row : [row])) : [columns, ...rows.map((row) => columns.map((column) => (row as Row)[column]))];
  return lines.map((cells) => `${cells.map(csvCell).join(',')}\r\n`).join('');
}

function rowsOf(value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value;
  if (!isRow(value)) return [value];
  const lists = Object.values(value).filter((item): item is Row[] => Array.isArray(item) && item.length > 0 && item.every(isRow));
  return lists.length === 1 && Object.keys(value).length === 1 ? (lists[0] as Row[]) : [value];
}

/**
 * A text that a spreadsheet would take for a formula gets an apostrophe before it; numbers stay numbers.
 * @see https://owasp.org/www-community/attacks/CSV_Injection
 */
function csvCell(value: unknown): string {
  const raw = scalar(value);
  const safe = typeof value === 'number' || !/^[\s]*[=+\-@]|^[\t\r\n]/.test(raw) ? raw : `'${raw}`;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function scalar(value: unknown): string {
  if (value === null || value === undefined) return '';
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function columnsOf(rows: readonly Row[]): string[] {
  return [...new Set(rows.flatMap((row) => Object.keys(row)))];
}

function isRow(value: unknown): value is Row {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isFlatRow(value: unknown): value is Row {
  return isRow(value) && Object.values(value).every((item) => typeof item !== 'object' || item === null);
}
