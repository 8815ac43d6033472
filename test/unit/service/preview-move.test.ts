import { expect, test } from 'vitest';
import type { ForecastRow } from '../../../db/forecasts.js';
import { movedRows } from '../../../service/preview-move.js';

const row = (id: string, place: number, more: Partial<ForecastRow> = {}): ForecastRow => ({
  id,
  attempt: 1,
  step: 'one',
  pool: 'general',
  key: null,
  state: 'waiting',
  needsSome: false,
  level: 5,
  exact: 50,
  place,
  waitedMs: 1_000,
  continues: false,
  held: false,
  locks: [],
  lack: null,
  host: null,
  ranMs: 0,
  dueInMs: 0,
  ...more,
});
const order = (rows: readonly ForecastRow[]) => rows.toSorted((a, b) => a.place - b.place).map(({ id, step }) => `${id}.${step}`);
const standing = [{ step: 'one', level: 8, exact: 80, waitedMs: 9_000 }];

test('the waiting rows of a moved task stand beside those of the other one, as it would stand after the move [SCHED-22]', () => {
  const rows = [row('a', 1), row('b', 2), row('b', 3, { step: 'two' }), row('c', 4)];
  expect(order(movedRows(rows, standing, { id: 'c', side: 'before', neighbour: 'b' }))).toEqual(['a.one', 'c.one', 'b.one', 'b.two']);
  expect(order(movedRows(rows, standing, { id: 'a', side: 'after', neighbour: 'b' }))).toEqual(['b.one', 'b.two', 'a.one', 'c.one']);
  const [, , , moved] = movedRows(rows, standing, { id: 'c', side: 'before', neighbour: 'a' });
  expect(moved).toMatchObject({ level: 8, exact: 80, waitedMs: 9_000 });
  expect(rows[3]).toMatchObject({ level: 5, place: 4 });
});

test('what runs of it stays where it is, and beside one that has not entered it stands behind all', () => {
  const rows = [row('a', 1, { state: 'running' }), row('a', 2, { step: 'two' }), row('b', 3)];
  const moved = movedRows(rows, [{ step: 'two', level: 5, exact: 50, waitedMs: 0 }], { id: 'a', side: 'after', neighbour: 'not there' });
  expect(order(moved)).toEqual(['a.one', 'b.one', 'a.two']);
});
