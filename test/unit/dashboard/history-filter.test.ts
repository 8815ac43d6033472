import { expect, test } from 'vitest';
import { bulkFilter, HistoryQuery, historyFilterOf, reportAddress } from '../../../dashboard/history-filter.js';

const filterOf = (query: object) => historyFilterOf(HistoryQuery.parse(query));
const now = new Date('2026-01-09T10:00:00Z');

test('without a status it is what has ended, and both days of a range are within it [DASH-07]', () => {
  expect(filterOf({}).statuses).toEqual(['completed', 'failed', 'cancelled']);
  expect(filterOf({ status: 'all' }).statuses).toEqual([]);
  const { createdAfter, createdBefore } = filterOf({ from: '2026-01-08', to: '2026-01-09' });
  expect([createdAfter?.toISOString(), createdBefore?.toISOString()]).toEqual(['2026-01-07T23:59:59.999Z', '2026-01-10T00:00:00.000Z']);
});

test('a day that is none and a range that is empty are refused', () => {
  expect(HistoryQuery.safeParse({ from: '2026-02-30' }).success).toBe(false);
  expect(HistoryQuery.safeParse({ to: 'yesterday' }).success).toBe(false);
  expect(() => filterOf({ from: '2026-01-09', to: '2026-01-08' })).toThrow('empty');
});

test('the report has the same filters [DASH-16]', () => {
  const address = reportAddress(filterOf({ status: 'failed', template: ['a&b', 'c'], priority: '7', user_id: 'ann', name: 'x y', to: '2026-01-09' }), 'csv');
  expect(address).toBe(
    '/api/v1/reports/tasks?format=csv&status=failed&template=a%26b&template=c&priority=7&user_id=ann&name=x+y&created_before=2026-01-10T00%3A00%3A00.000Z',
  );
});

test('a bulk change means what is shown and nothing that comes later [DASH-07]', () => {
  expect(bulkFilter(filterOf({ status: 'completed' }), ['failed'], now)).toBeNull();
  expect(bulkFilter(filterOf({ name: 'x' }), ['failed'], now)).toMatchObject({ status: ['failed'], name: 'x', created_before: now.toISOString() });
  expect(bulkFilter(filterOf({ status: 'all', to: '2026-01-01' }), ['queued', 'running'], now)).toMatchObject({
    status: ['queued', 'running'],
    created_before: '2026-01-02T00:00:00.000Z',
  });
});
