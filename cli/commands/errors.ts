import { parseTaskId } from '../../contract/ids.js';
import type { ErrorGroupView } from '../../contract/schemas/reports.js';
import { type AddCommand, act } from '../command.js';
import { CliFailure, exitCodes } from '../failure.js';
import { moment, relative } from '../moments.js';
import { type ReportOptions, reportQueryOf, withReportOptions } from '../report-query.js';
import type { Session } from '../session.js';
import { type Column, printTable } from '../terminal.js';
import { visibleLine } from '../visible.js';

interface Options extends ReportOptions {
  readonly group?: string;
}

/** As many as one `retry` takes. */
const idsMax = 1_000;

const columns = (nowMs: number): readonly Column<ErrorGroupView>[] => [
  { title: 'TASKS', value: ({ count }) => String(count) },
  { title: 'LAST', value: ({ last_seen }) => relative(last_seen, nowMs), plain: ({ last_seen }) => last_seen },
  { title: 'TEMPLATE', value: ({ template }) => template, flexible: true },
  { title: 'STEP', value: ({ step }) => step ?? '', flexible: true },
  { title: 'ERROR', value: errorOf, flexible: true },
  { title: 'KEY', value: ({ key }) => key },
];

function errorOf({ code, pattern }: ErrorGroupView): string {
  return code === '' ? pattern : `${code}: ${pattern}`;
}

export const addErrors: AddCommand = (program) => {
  withReportOptions(
    program.command('errors').description('group failed tasks by what went wrong, the largest group first; those that were retried are left out'),
  )
    .option('--group <key>', `print the ids of the tasks of one group, the latest ${idsMax} at most`)
    .action(
      act<[], Options>(async (session, options) => {
        const query = reportQueryOf(options);
        if (options.group !== undefined) return printIds(session, query, options.group);
        const groups = await (await session.client()).reports.errors(query);
        if (session.json) return session.printJson(groups);
        if (groups.items.length === 0) return session.terminal.note(`No task has failed since ${moment(groups.from, Date.now())}.`);
        printTable(session.terminal, columns(Date.now()), groups.items);
        const shown = groups.items.reduce((sum, { count }) => sum + count, 0);
        if (shown < groups.failed) session.terminal.note(`The ${groups.items.length} largest groups, with ${shown} of ${groups.failed} failed tasks.`);
        if (!groups.complete) session.terminal.note('So many tasks failed that only the latest 10,000 are grouped; a shorter --since groups all of its own.');
      }),
    );
};

async function printIds(session: Session, query: ReturnType<typeof reportQueryOf>, key: string): Promise<void> {
  const groups = await (await session.client()).reports.errors({ ...query, group: key, ids: idsMax });
  const [group] = groups.items;
  if (group === undefined)
    throw new CliFailure(
      exitCodes.notFound,
      `There is no group ${key} since ${moment(groups.from, Date.now())}: \`orchestra errors\` shows those there are; give the --since and --template that showed it.`,
    );
  if (session.json) return session.printJson(groups);
  // Another program reads them as its arguments, so nothing else passes.
  for (const id of group.task_ids) if (parseTaskId(id) !== undefined) session.terminal.print(id);
  const left = group.task_ids.length < group.count ? `; these are the latest ${group.task_ids.length} of ${group.count}` : '';
  session.terminal.note(`They failed with ${visibleLine(errorOf(group))}${left}`);
}
