import { pause } from '../../client/transport.js';
import type { TaskView } from '../../contract/schemas/task.js';
import { type AddCommand, act } from '../command.js';
import type { Session } from '../session.js';
import { countOf, type FilterOptions, filterOf, withFilters } from '../task-filter.js';
import { taskColumns } from '../task-lines.js';
import { printTable } from '../terminal.js';

interface Options extends FilterOptions {
  readonly limit?: string;
  readonly all?: boolean;
  readonly watch?: boolean;
}

const watchEveryMs = 2_000;

export const addList: AddCommand = (program) => {
  withFilters(program.command('list').alias('ls').description('list tasks, newest first'))
    .option('-n, --limit <n>', 'tasks at most', '20')
    .option('--all', 'all of them')
    .option('-w, --watch', 'show them again every 2 s')
    .action(
      act<[], Options>(async (session, options) => {
        const client = await session.client();
        const limit = countOf(options.limit ?? '20', '--limit', 500);
        const filter = filterOf(options);
        const signal = options.watch ? session.interruptible('No longer watched.') : undefined;
        for (;;) {
          if (options.all) {
            const tasks: TaskView[] = [];
            for await (const task of client.tasks.list({ ...filter, pageSize: 500, signal })) tasks.push(task);
            show(session, tasks, tasks.length, session.json ? { items: tasks, next_cursor: null, total: tasks.length } : null);
          } else {
            const page = await client.tasks.listPage({ ...filter, limit, signal });
            show(session, page.items, page.total, session.json ? page : null);
          }
          if (!options.watch) return;
          await pause(watchEveryMs, signal);
          if (session.terminal.interactive) session.terminal.write('\x1b[2J\x1b[H');
        }
      }),
    );
};

function show({ terminal, printJson }: Session, tasks: readonly TaskView[], total: number, document: object | null): void {
  if (document !== null) return printJson(document);
  if (tasks.length === 0) return terminal.note('No tasks. `orchestra submit <template>` creates one; `orchestra templates` shows what there is.');
  printTable(terminal, taskColumns(Date.now()), tasks);
  if (total > tasks.length) terminal.note(`${tasks.length} of ${total}; --limit or --all shows more.`);
}
