import { levelMax } from '../../contract/priority.js';
import { bulkFilter, filterText, HistoryQuery, historyFilterOf, orderOf, reportAddress } from '../history-filter.js';
import type { Page } from '../page.js';
import { queryOf } from '../query.js';

const pageSize = 50;

/** What has ended and how, with what it used; any other task by its status. */
export const historyPage: Page = {
  path: '/history',
  nav: 'history',
  access: 'read',
  view: 'history',
  live: ['tasks'],
  scripts: ['bulk.js', 'history.js'],
  async load({ caller, services, url }) {
    const query = queryOf(HistoryQuery, url);
    const filter = historyFilterOf(query);
    const order = orderOf(filter.statuses);
    const history = await services.listHistory(caller, { filter, order, limit: pageSize, cursor: query.cursor ?? null });
    const now = new Date();
    const failed = bulkFilter(filter, ['failed'], now);
    const cancelled = bulkFilter(filter, ['cancelled'], now);
    const open = bulkFilter(filter, ['queued', 'running'], now);
    return {
      title: 'History',
      data: {
        history,
        query,
        byEnd: order === 'ended',
        filtered:
          [query.status, query.template, query.priority, query.user_id].some(({ length }) => length > 0) || Boolean(query.name ?? query.from ?? query.to),
        mayChange: caller.role !== 'viewer',
        bulk: [
          ...(failed === null ? [] : [{ id: 'retry-failed', action: 'retry', filter: failed, label: 'Retry all that failed' }]),
          ...(cancelled === null || query.status.length === 0
            ? []
            : [{ id: 'retry-cancelled', action: 'retry', filter: cancelled, label: 'Retry all that were cancelled' }]),
          ...(open === null ? [] : [{ id: 'cancel-open', action: 'cancel', filter: open, label: 'Cancel all that have not ended' }]),
        ].map((bulk) => ({ ...bulk, note: filterText(bulk.filter, caller.role === 'admin') })),
        reports: { csv: reportAddress(filter, 'csv'), json: reportAddress(filter, 'json') },
        templates: [...new Set([...services.listTemplates().items.map(({ name }) => name), ...query.template])],
        levels: Array.from({ length: levelMax }, (_, index) => levelMax - index),
      },
    };
  },
};
