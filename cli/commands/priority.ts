import { type BulkOptions, changeTasks } from '../bulk.js';
import { type AddCommand, act } from '../command.js';
import { levelOf, withFilters } from '../task-filter.js';

export const addPriority: AddCommand = (program) => {
  withFilters(program.command('priority <level> [ids...]').description('give tasks another priority, 1 to 10, by ids or by filters'))
    .option('--dry-run', 'only show which')
    .option('-y, --yes', 'do not ask')
    .action(
      act<[level: string, ids: string[]], BulkOptions>((session, options, level, ids) =>
        changeTasks(session, ids, options, { action: 'priority', priority: levelOf(level) }),
      ),
    );
};
