import { type BulkOptions, changeTasks } from '../bulk.js';
import { type AddCommand, act } from '../command.js';
import { withFilters } from '../task-filter.js';

export const addRetry: AddCommand = (program) => {
  withFilters(program.command('retry [ids...]').description('queue failed or cancelled tasks again under the same id, by ids or by filters'))
    .option('--dry-run', 'only show which')
    .option('-y, --yes', 'do not ask')
    .action(act<[ids: string[]], BulkOptions>((session, options, ids) => changeTasks(session, ids, options, { action: 'retry' })));
};
