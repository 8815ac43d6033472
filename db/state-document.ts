/** What a state document says of itself before its rows. */
export interface StateHeader {
  /** version of the program that wrote it */
  readonly program: string;
  /** ISO 8601, UTC */
  readonly exportedAt: string;
  /** names of the migrations of its schema, in order */
  readonly migrations: readonly string[];
}

const format = 'ai-task-orchestra/state';
const version = 1;

/** A text that is no state document as an export wrote it; the message names the line. */
export class NotAStateDocument extends Error {
  override readonly name = 'NotAStateDocument';
}

/**
 * Writes a document: one JSON object with a line for each row, so that a state of any size is read in bounded memory.
 * @param write resolves when more may come
 */
export function createStateWriter(write: (text: string) => Promise<void>): {
  begin(header: StateHeader): Promise<void>;
  table(name: string): Promise<void>;
  row(json: string): Promise<void>;
  end(): Promise<void>;
} {
  let tables = 0;
  let rows = 0;
  const closeTable = () => (tables === 0 ? '' : rows === 0 ? ']' : '\n]');
  return {
    begin: ({ program, exportedAt, migrations }) =>
      write(`${JSON.stringify({ format, version, program, exported_at: exportedAt, migrations }).slice(0, -1)},"tables":{\n`),
    async table(name) {
      await write(`${closeTable()}${tables === 0 ? '' : ',\n'}${JSON.stringify(name)}:[`);
      tables += 1;
      rows = 0;
    },
    async row(json) {
      await write(`${rows === 0 ? '' : ','}\n${json}`);
      rows += 1;
    },
    end: () => write(`${closeTable()}${tables === 0 ? '' : '\n'}}}\n`),
  };
}

export type StateLine = { readonly header: StateHeader } | { readonly table: string } | { readonly row: string };

const tableLine = /^"([a-z_]+)":\[(\],?)?$/;

/**
 * Reads a document line by line.
 * @param lines without their ends
 * @throws {NotAStateDocument} for anything that {@link createStateWriter} does not write, such as a file that was cut
 */
export async function* readStateLines(lines: AsyncIterable<string>): AsyncGenerator<StateLine> {
  let number = 0;
  let state: 'start' | 'tables' | 'rows' | 'ended' = 'start';
  for await (const line of lines) {
    number += 1;
    const wrong = (why: string) => new NotAStateDocument(`line ${number}: ${why}`);
    if (state === 'start') {
      yield { header: headerOf(line, wrong) };
      state = 'tables';
      continue;
    }
    const [, table, empty] = tableLine.exec(line) ?? [];
    if (state === 'tables' && table !== undefined) {
      yield { table };
      state = empty === undefined ? 'rows' : 'tables';
    } else if (state === 'rows' && line.startsWith('{')) yield { row: line.endsWith(',') ? line.slice(0, -1) : line };
    else if (state === 'rows' && (line === ']' || line === '],')) state = 'tables';
    else if (state === 'tables' && line === '}}') state = 'ended';
    else throw wrong('not as an export writes it; a document that was formatted anew or edited by hand cannot be imported');
  }
  if (state !== 'ended') throw new NotAStateDocument(number === 0 ? 'it is empty' : `line ${number}: the document ends too early; the file was cut`);
}

function headerOf(line: string, wrong: (why: string) => NotAStateDocument): StateHeader {
  let read: unknown;
  try {
    read = JSON.parse(`${line}}}`);
  } catch {
    throw wrong('this is no state document');
  }
  const header = read as { format?: unknown; version?: unknown; program?: unknown; exported_at?: unknown; migrations?: unknown };
  if (header.format !== format) throw wrong('this is no state document');
  if (header.version !== version) throw wrong(`a state document of version ${String(header.version)}; this release reads version ${version}`);
  const migrations = Array.isArray(header.migrations) ? header.migrations.map(String) : [];
  return { program: String(header.program), exportedAt: String(header.exported_at), migrations };
}
