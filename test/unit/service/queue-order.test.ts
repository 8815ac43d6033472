import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { ForecastEntry, StoredForecast } from '../../../contract/forecast.js';
import { compareWaiting, defaultMaxWaitsMs } from '../../../scheduling/waiting-order.js';
import { comparePos, orderQueue as orderArrived, type WaitingRow, withPlaced } from '../../../service/queue-order.js';

const madeAt = new Date('2030-01-01T00:00:00Z');
const nowMs = madeAt.getTime() + 1_000;

/** A row and when it came, among the rows of a test. */
interface Row extends WaitingRow {
  readonly place: number;
}

/** The order of rows that are given in any order. */
const orderQueue = (rows: readonly Row[], forecast: StoredForecast | null, atMs: number) =>
  orderArrived(
    rows.toSorted((a, b) => a.place - b.place),
    forecast,
    atMs,
  );

function row(taskId: string, more: Partial<Row> = {}): Row {
  const place = [...taskId].reduce((sum, char) => sum * 128 + char.charCodeAt(0), 0);
  return {
    taskId,
    step: 'one',
    pool: 'model',
    key: 'a~ctx4096',
    level: 5,
    exact: 50,
    place,
    enteredAtMs: madeAt.getTime() - 10_000,
    placedAtMs: null,
    userId: 'ann',
    template: 't',
    detail: 'waiting_slot',
    ...more,
  };
}
const entry = (taskId: string, more: Partial<ForecastEntry> = {}) => ({ task_id: taskId, step: 'one', why: 'waiting_slot', ...more }) as ForecastEntry;
const forecastOf = (...entries: readonly ForecastEntry[]): StoredForecast => ({ version: 1, madeAt, entries });
const ids = (rows: readonly Row[], forecast: StoredForecast | null) => orderQueue(rows, forecast, nowMs).map((placed) => placed.row.taskId);

test('the order is that of the predicted starts [SCHED-22]', () => {
  expect(ids([row('a'), row('b'), row('c')], forecastOf(entry('c'), entry('gone'), entry('a'), entry('b')))).toEqual(['c', 'a', 'b']);
});

test('without a forecast it is the order of the line, with what cannot start at the end [SCHED-22]', () => {
  const rows = [row('a', { detail: 'held', exact: 100, level: 10 }), row('b'), row('c', { exact: 90, level: 9 }), row('d', { detail: 'waiting_dependency' })];
  expect(ids(rows, null)).toEqual(['c', 'b', 'a', 'd']);
  expect(orderQueue(rows, null, nowMs).map((placed) => placed.entry)).toEqual([null, null, null, null]);
});

test('what the forecast has not seen stands before the first of its model that it goes before, else at the end [SCHED-22]', () => {
  const b = { key: 'b~ctx4096' };
  const rows = [
    row('a'),
    row('c'),
    row('b', b),
    row('d', b),
    row('x', { exact: 90, level: 9 }),
    row('y', { ...b, place: 0 }),
    row('z', { ...b, key: 'new~ctx4096' }),
  ];
  const forecast = forecastOf(entry('b'), entry('d'), entry('a'), entry('c'));
  expect(ids(rows, forecast)).toEqual(['y', 'b', 'd', 'x', 'a', 'c', 'z']);
});

test('what was placed after the forecast stands at its new place, without times; what was placed before has them [SCHED-22]', () => {
  const rows = [row('a'), row('b', { placedAtMs: madeAt.getTime() - 1 }), row('c', { place: 1, placedAtMs: madeAt.getTime() + 1 })];
  const placed = orderQueue(rows, forecastOf(entry('a'), entry('b'), entry('c')), nowMs);
  expect(placed.map(({ row: { taskId }, entry: told }) => [taskId, told !== null])).toEqual([
    ['c', false],
    ['a', true],
    ['b', true],
  ]);
});

test('a step that ran when the forecast was made and waits again is one that it has not seen', () => {
  expect(ids([row('b'), row('a')], forecastOf(entry('b', { why: null }), entry('a')))).toEqual(['a', 'b']);
});

test('nothing is lost or doubled, those that were seen keep their order, and those of a model that were not stand as in the line [SCHED-22]', () => {
  const some = fc.record({
    level: fc.integer({ min: 1, max: 10 }),
    key: fc.constantFrom('a~ctx1', 'b~ctx1', null),
    waitedS: fc.integer({ min: 0, max: 4_000 }),
    seen: fc.boolean(),
    detail: fc.constantFrom('waiting_slot' as const, 'waiting_model' as const, 'held' as const),
  });
  fc.assert(
    fc.property(fc.array(some, { maxLength: 30 }), fc.infiniteStream(fc.nat()), (all, random) => {
      const rows = all.map(({ level, key, waitedS, detail }, place) =>
        row(`t${place}`, { level, exact: level * 10, key, pool: key === null ? 'general' : 'model', place, enteredAtMs: nowMs - waitedS * 1_000, detail }),
      );
      const shuffled = rows.filter((_row, at) => all[at]?.seen).map((each) => ({ each, by: random.next().value ?? 0 }));
      const seen = shuffled.sort((a, b) => a.by - b.by).map(({ each }) => each);
      const placed = orderQueue(rows, forecastOf(...seen.map(({ taskId }) => entry(taskId))), nowMs);
      expect(placed.map((each) => each.row.taskId).sort()).toEqual(rows.map(({ taskId }) => taskId).sort());
      expect(placed.filter((each) => each.entry !== null).map((each) => each.row.taskId)).toEqual(seen.map(({ taskId }) => taskId));
      for (const key of ['a~ctx1', 'b~ctx1', null]) {
        const waiting = placed
          .filter((each) => each.entry === null && each.row.key === key && each.row.detail !== 'held')
          .map(({ row: each, place }) => ({ ...each, place, waitedMs: nowMs - each.enteredAtMs }));
        expect(waiting.toSorted((a, b) => compareWaiting(a, b, defaultMaxWaitsMs))).toEqual(waiting);
      }
    }),
  );
});

test('places are compared however many digits they have', () => {
  const anyPos = fc.tuple(fc.nat(1_000), fc.stringMatching(/^\d{0,60}$/)).map(([whole, digits]) => (digits === '' ? `${whole}` : `${whole}.${digits}`));
  const scaled = (pos: string) => BigInt((pos.split('.')[0] ?? '') + (pos.split('.')[1] ?? '').padEnd(60, '0'));
  fc.assert(
    fc.property(anyPos, anyPos, (a, b) => {
      const [one, other] = [scaled(a), scaled(b)];
      expect(Math.sign(comparePos(a, b))).toBe(one < other ? -1 : one > other ? 1 : 0);
    }),
  );
});

test('rows of tasks that were placed anew stand where they are now, and all others as before [SCHED-22]', () => {
  const anyRow = fc.record({ taskId: fc.constantFrom('a', 'b', 'c', 'd', 'e'), pos: fc.integer({ min: 1, max: 99 }) });
  fc.assert(
    fc.property(fc.uniqueArray(anyRow, { selector: ({ taskId }) => taskId }), fc.uniqueArray(anyRow, { selector: ({ taskId }) => taskId }), (old, anew) => {
      const sorted = (rows: typeof old) => rows.map(({ taskId, pos }) => ({ taskId, pos: `${pos}` })).sort((x, y) => comparePos(x.pos, y.pos));
      const merged = withPlaced(sorted(old), sorted(anew));
      expect(merged.map(({ pos }) => pos)).toEqual(
        sorted([...old.filter((row) => anew.every(({ taskId }) => taskId !== row.taskId)), ...anew]).map(({ pos }) => pos),
      );
      expect(new Set(merged.map(({ taskId }) => taskId)).size).toBe(merged.length);
    }),
  );
});
