import type { NewBatchItem } from '../../client/shapes.js';
import { type AddCommand, act } from '../command.js';
import { exitCodes, usageFault } from '../failure.js';
import { parseJson, readText } from '../parameters.js';
import { visibleLine } from '../visible.js';

/** Items of one request of the API. */
const itemsMax = 1_000;

export const addBatch: AddCommand = (program) => {
  program
    .command('batch <file>')
    .description('create many tasks: a file with one JSON object a line, or with one JSON array; - for standard input')
    .action(
      act<[file: string], object>(async (session, _options, file) => {
        const items = itemsOf(readText(file), file);
        if (items.length > itemsMax) throw usageFault(`${file} has ${items.length} tasks, at most ${itemsMax} are created at once: split it.`);
        const result = await (await session.client()).tasks.batch(items);
        if (result.refused > 0) process.exitCode = exitCodes.failed;
        if (session.json) return session.printJson(result);
        for (const { index, outcome, task, problem } of result.items) {
          session.terminal.print(
            [String(index + 1), outcome, task?.id ?? '', problem === null ? '' : visibleLine(`${problem.detail} [${problem.code}]`)].join('\t'),
          );
        }
        session.terminal.note(`${result.created} created, ${result.existing} there already, ${result.refused} refused`);
      }),
    );
};

function itemsOf(text: string, file: string): NewBatchItem[] {
  if (text.trimStart().startsWith('[')) return parseJson(text, file) as NewBatchItem[];
  return text.split(/\r?\n/).flatMap((line, index) => (line.trim() === '' ? [] : [parseJson(line, `${file}, line ${index + 1},`) as NewBatchItem]));
}
