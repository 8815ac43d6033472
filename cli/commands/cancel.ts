import { type BulkOptions, changeTasks } from '../bulk.js';
import { type AddCommand, act } from '../command.js';
import { withFilters } from '../task-filter.js';

export const addCancel: AddCommand = (program) => {
  withFilters(program.command('cancel [ids...]').description('cancel tasks, by ids or by filters'))
    .option('--dry-run', 'only show which')
    .option('-y, --yes', 'do not ask')
    .action(act<[ids: string[]], BulkOptions>((session, options, ids) => changeTasks(session, ids, options, { action: 'cancel' })));
};
