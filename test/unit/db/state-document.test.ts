import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createStateWriter, NotAStateDocument, readStateLines, type StateHeader, type StateLine } from '../../../db/state-document.js';

const header: StateHeader = { program: '0.1.0', exportedAt: '2026-01-09T10:30:00.000Z', migrations: ['00001_core'] };

async function written(tables: readonly (readonly [name: string, rows: readonly string[]])[]): Promise<string> {
  let text = '';
  const writer = createStateWriter(async (part) => void (text += part));
  await writer.begin(header);
  for (const [name, rows] of tables) {
    await writer.table(name);
    for (const row of rows) await writer.row(row);
  }
  await writer.end();
  return text;
}

async function read(text: string): Promise<StateLine[]> {
  async function* lines() {
    if (text !== '') yield* text.endsWith('\n') ? text.slice(0, -1).split('\n') : text.split('\n');
  }
  const found: StateLine[] = [];
  for await (const line of readStateLines(lines())) found.push(line);
  return found;
}

const anyTables = fc.array(
  fc.tuple(fc.stringMatching(/^[a-z_]{1,12}$/), fc.array(fc.dictionary(fc.string(), fc.jsonValue()).map((row) => JSON.stringify(row)))),
);

test('what is written is one JSON document, and reading it gives the same tables and rows [DUR-04]', async () => {
  await fc.assert(
    fc.asyncProperty(anyTables, async (tables) => {
      const text = await written(tables);
      expect(() => JSON.parse(text)).not.toThrow();
      expect(await read(text)).toEqual([{ header }, ...tables.flatMap(([table, rows]) => [{ table }, ...rows.map((row) => ({ row }))])]);
    }),
  );
});

test('a document that was cut is refused, wherever it was cut [DUR-04]', async () => {
  const text = await written([
    ['tasks', ['{"id":1}', '{"id":2}']],
    ['events', []],
    ['keys', ['{"id":3}']],
  ]);
  for (let end = 0; end < text.length - 1; end += 1) await expect(read(text.slice(0, end)), `cut after ${end} characters`).rejects.toThrow(NotAStateDocument);
});

test.each([
  ['', 'it is empty'],
  ['{}', 'line 1: this is no state document'],
  ['no JSON at all', 'line 1: this is no state document'],
  ['{"format":"ai-task-orchestra/state","version":2,"tables":{', 'line 1: a state document of version 2; this release reads version 1'],
])('%j is refused with its place [DUR-04]', async (text, message) => {
  await expect(read(text)).rejects.toThrow(message);
});

test('a document that was formatted anew is refused with a sentence that says so [DUR-04]', async () => {
  const text = JSON.stringify(JSON.parse(await written([['tasks', ['{"id":1}']]])), null, 2);
  await expect(read(text)).rejects.toThrow('line 1: this is no state document');
  const rows = (await written([['tasks', ['{"id":1}']]])).replace('{"id":1}', '\n{\n"id":1}');
  await expect(read(rows)).rejects.toThrow('formatted anew or edited by hand');
});
