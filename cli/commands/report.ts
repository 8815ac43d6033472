import { createWriteStream } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type AddCommand, act } from '../command.js';
import { usageFault } from '../failure.js';
import { type FilterOptions, filterOf, withFilters } from '../task-filter.js';

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
        if (options.output === undefined) await pipeline(body, process.stdout, { end: false });
        else {
          await pipeline(body, createWriteStream(options.output));
          session.terminal.note(`wrote ${options.output}`);
        }
      }),
    );
};
