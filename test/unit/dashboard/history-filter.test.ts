import { expect, test } from 'vitest';
import { bulkFilter, filterText, HistoryQuery, historyFilterOf, orderOf, reportAddress } from '../../../dashboard/history-filter.js';

const filterOf = (query: object) => historyFilterOf(HistoryQuery.parse(query));
const now = new Date('2026-01-09T10:00:00Z');

test('without a status it is what has ended, and both days of a range are within it [DASH-07]', () => {
  expect(filterOf({}).statuses).toEqual(['completed', 'failed', 'cancelled']);
  expect(filterOf({ status: 'all' }).statuses).toEqual([]);
  const range = { from: '2026-01-08', to: '2026-01-09' };
  const times = [new Date('2026-01-07T23:59:59.999Z'), new Date('2026-01-10T00:00:00.000Z')];
  const ended = filterOf(range);
  expect([orderOf(ended.statuses), ended.createdAfter, ended.createdBefore, ended.endedAfter, ended.endedBefore]).toEqual(['ended', null, null, ...times]);
  for (const status of ['all', 'queued', ['failed', 'running']]) {
    const mixed = filterOf({ ...range, status });
    expect([orderOf(mixed.statuses), mixed.createdAfter, mixed.createdBefore, mixed.endedAfter]).toEqual(['created', ...times, undefined]);
  }
});

test('a filter is told in words, and whose tasks it means [DASH-07, DASH-17]', () => {
  const bulk = (query: object, statuses: Parameters<typeof bulkFilter>[1]) => bulkFilter(filterOf(query), statuses, now) ?? expect.fail('no task fits');
  expect(filterText(bulk({}, ['failed']), true)).toBe('Tasks of all users with status failed.');
  expect(filterText(bulk({ name: 'x', template: ['a', 'b'], priority: '7', from: '2026-01-08' }, ['failed']), false)).toBe(
    'Your tasks with status failed, template a or b, priority 7, “x” in the name, ended from 2026-01-08.',
  );
  expect(filterText(bulk({ status: 'all', user_id: 'ann' }, ['queued', 'running']), true)).toBe('Tasks of ann with status queued or running.');
});

test('a day that is none is refused, and two days are a range in either order', () => {
  expect(HistoryQuery.safeParse({ from: '2026-02-30' }).success).toBe(false);
  expect(HistoryQuery.safeParse({ to: 'yesterday' }).success).toBe(false);
  expect(filterOf({ from: '2026-01-09', to: '2026-01-08' })).toEqual(filterOf({ from: '2026-01-08', to: '2026-01-09' }));
});

test('the report has the same filters [DASH-16]', () => {
  const address = reportAddress(filterOf({ status: 'failed', template: ['a&b', 'c'], priority: '7', user_id: 'ann', name: 'x y', to: '2026-01-09' }), 'csv');
  expect(address).toBe(
    '/api/v1/reports/tasks?format=csv&status=failed&template=a%26b&template=c&priority=7&user_id=ann&name=x+y&ended_before=2026-01-10T00%3A00%3A00.000Z',
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
