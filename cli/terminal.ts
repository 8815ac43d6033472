import { columnsOf, fit, visibleLine } from './visible.js';

export interface Terminal {
  /** a person looks at standard output */
  readonly interactive: boolean;
  readonly columns: number;
  /** One line of the answer itself, to standard output. */
  print(line: string): void;
  /** Text of the answer as it comes, without a line end. */
  write(text: string): void;
  /** Something beside the answer, to standard error; nothing with --quiet. */
  note(line: string): void;
  paint(color: Color, text: string): string;
}

const colors = { red: 31, green: 32, yellow: 33, cyan: 36, dim: 2, bold: 1 } as const;
export type Color = keyof typeof colors;

export function openTerminal(options: { readonly color: boolean; readonly quiet: boolean }): Terminal {
  const interactive = process.stdout.isTTY === true;
  const painted = interactive && options.color;
  return {
    interactive,
    columns: process.stdout.columns ?? 80,
    print: (line) => void process.stdout.write(`${line}\n`),
    write: (text) => void process.stdout.write(text),
    note: (line) => void (options.quiet || process.stderr.write(`${line}\n`)),
    paint: (color, text) => (painted ? `\x1b[${colors[color]}m${text}\x1b[0m` : text),
  };
}

export interface Column<Row> {
  readonly title: string;
  value(row: Row): string;
  /** what is printed where no person looks; default `value` */
  plain?(row: Row): string;
  color?(row: Row): Color | undefined;
  /** gives way when the terminal is too narrow */
  readonly flexible?: boolean;
}

const gap = 2;
const narrowest = 6;

/** A table as wide as the terminal for a person, else one line per row with tabs between exact values. */
export function printTable<Row>(terminal: Terminal, columns: readonly Column<Row>[], rows: readonly Row[]): void {
  if (!terminal.interactive) {
    for (const row of rows) terminal.print(columns.map((column) => visibleLine((column.plain ?? column.value)(row))).join('\t'));
    return;
  }
  for (const line of layOut(columns, rows, terminal.columns, terminal.paint)) terminal.print(line);
}

/** The lines of a table; none is wider than `width` as long as the columns that do not give way fit. */
export function layOut<Row>(columns: readonly Column<Row>[], rows: readonly Row[], width: number, paint: Terminal['paint']): string[] {
  const cells = rows.map((row) => columns.map((column) => visibleLine(column.value(row))));
  const widths = columns.map(({ title }, index) => Math.max(columnsOf(title), ...cells.map((row) => columnsOf(row[index] ?? ''))));
  let over = widths.reduce((sum, each) => sum + each, gap * (columns.length - 1)) - width;
  while (over > 0) {
    const widest = columns.reduce((best, { flexible }, index) => (flexible && (best < 0 || (widths[index] ?? 0) > (widths[best] ?? 0)) ? index : best), -1);
    const present = widths[widest] ?? 0;
    if (present <= narrowest) break;
    const next = Math.max(narrowest, present - over);
    widths[widest] = next;
    over -= present - next;
  }
  const line = (texts: readonly string[], dress: (text: string, index: number) => string) =>
    texts
      .map((text, index) => {
        const cut = fit(text, widths[index] ?? 0);
        const last = index === columns.length - 1;
        return dress(cut, index) + (last ? '' : ' '.repeat((widths[index] ?? 0) - columnsOf(cut) + gap));
      })
      .join('')
      .trimEnd();
  return [
    line(
      columns.map(({ title }) => title),
      (text) => paint('dim', text),
    ),
    ...cells.map((row, at) =>
      line(row, (text, index) => {
        const color = columns[index]?.color?.(rows[at] as Row);
        return color === undefined ? text : paint(color, text);
      }),
    ),
  ];
}
