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

/** The items of a file: one JSON object a line, one JSON array, or the body of a request, `{"tasks": [...]}`. @throws {CliFailure} 2 */
export function itemsOf(text: string, file: string): NewBatchItem[] {
  const whole = wholeOf(text, file);
  if (whole !== null) return whole.map((item, index) => itemOf(item, `${file}, item ${index + 1},`));
  return text.split(/\r?\n/).flatMap((line, index) => {
    const place = `${file}, line ${index + 1},`;
    return line.trim() === '' ? [] : [itemOf(parseJson(line, place), place)];
  });
}

/** The items of a file that is one document; null when it is lines. */
function wholeOf(text: string, file: string): readonly unknown[] | null {
  if (text.trimStart().startsWith('[')) return parseJson(text, file) as unknown[];
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    return null;
  }
  if (!isObject(document)) return null;
  return Array.isArray(document['tasks']) && document['template'] === undefined ? document['tasks'] : [document];
}

function itemOf(value: unknown, place: string): NewBatchItem {
  if (!isObject(value)) throw usageFault(`${place} has to hold one JSON object, a task.`);
  return value as NewBatchItem;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
