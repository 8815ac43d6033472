import { createWriteStream } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type AddCommand, act } from '../command.js';
import { usageFault } from '../failure.js';
import { type FilterOptions, filterOf, withFilters } from '../task-filter.js';
import { visibleText } from '../visible.js';

interface Options extends FilterOptions {
  readonly format: string;
  readonly output?: string;
}

export const addReport: AddCommand = (program) => {
  withFilters(program.command('report').description('write a report of tasks as CSV or JSON'))
    .option('--format <csv|json>', 'how it is written', 'csv')
    .option('-o, --output <file>', 'where to; default: standard output')
    .action(
      act<[], Options>(async (session, options) => {
        const format = session.json ? 'json' : options.format;
        if (format !== 'csv' && format !== 'json') throw usageFault(`--format ${format}: give csv or json.`);
        const answer = await (await session.client()).reports.tasks({ ...filterOf(options), format });
        if (answer.body === null) return;
        const body = Readable.fromWeb(answer.body as Parameters<typeof Readable.fromWeb>[0]);
        if (options.output === undefined) {
          // A file or a program gets the report as it is, a terminal what it cannot be steered by.
          if (session.terminal.interactive) await pipeline(body, visibleChunks, process.stdout, { end: false });
          else await pipeline(body, process.stdout, { end: false });
        } else {
          await pipeline(body, createWriteStream(options.output));
          session.terminal.note(`wrote ${options.output}`);
        }
      }),
    );
};

async function* visibleChunks(body: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  // The line feed that belongs to a carriage return may be in the next piece.
  let held = '';
  for await (const piece of body) {
    const text = held + decoder.decode(piece, { stream: true });
    held = text.endsWith('\r') ? '\r' : '';
    yield visibleText(text.slice(0, text.length - held.length));
  }
  yield visibleText(held + decoder.decode());
}
