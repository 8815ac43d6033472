import { describe, expect, test } from 'vitest';
import type { TrendBucketView } from '../../../contract/schemas/reports.js';
import { drawTrend, sumBuckets } from '../../../dashboard/drawings/trend-chart.js';

const range = { from: '2026-01-08T10:20:00.000Z', until: '2026-01-09T10:20:00.000Z', bucketSeconds: 3_600 };
const none = { median: null, p90: null };
const bucket = (at: string, more: Partial<TrendBucketView> = {}): TrendBucketView => ({
  at,
  completed: 0,
  failed: 0,
  cancelled: 0,
  ran: none,
  waited: none,
  ...more,
});

describe('the drawing of a trend [DASH-09]', () => {
  test('has a place for each bucket of the range, the first and the last within it', () => {
    const first = bucket('2026-01-08T10:00:00.000Z', { completed: 1, ran: { median: 10, p90: 20 } });
    const last = bucket('2026-01-09T10:00:00.000Z', { completed: 1, ran: { median: 20, p90: 20 } });
    const { points, bars, left, width } = drawTrend(range, [first, last, bucket('2026-01-09T11:00:00.000Z', { completed: 9 })]);
    expect(points).toHaveLength(2);
    expect(bars).toHaveLength(2);
    expect(points[0]?.x).toBeGreaterThan(left);
    expect((bars[1]?.x ?? 0) + (bars[1]?.width ?? 0)).toBeLessThanOrEqual(width);
    expect(points[0]?.median).toBeGreaterThan(points[1]?.median ?? 0); // more is higher
    expect(points[0]?.title).toBe('8 Jan 10:00: median 10 s, 90 % within 20 s, 1 completed');
  });

  test('a line is broken where nothing completed', () => {
    const at = (hour: string) => bucket(`2026-01-09T${hour}:00:00.000Z`, { completed: 1, ran: { median: 1, p90: 1 } });
    const { median } = drawTrend(range, [at('01'), at('02'), bucket('2026-01-09T03:00:00.000Z', { failed: 2 }), at('04')]);
    expect(median.replaceAll(/[\d. ]+/g, '')).toBe('MLM');
  });

  test('bars are stacked without gaps and the tallest fills the room', () => {
    const { bars, floor } = drawTrend(range, [
      bucket('2026-01-09T01:00:00.000Z', { completed: 6, failed: 3, cancelled: 1 }),
      bucket('2026-01-09T02:00:00.000Z', { completed: 5 }),
    ]);
    const [tall, half] = bars;
    expect(tall?.parts.map(({ kind }) => kind)).toEqual(['failed', 'cancelled', 'completed']);
    let y = floor;
    for (const part of tall?.parts ?? []) {
      y -= part.height;
      expect(part.y).toBeCloseTo(y, 0);
    }
    expect(half?.parts[0]?.height).toBeCloseTo((floor - y) / 2, 0);
    expect(tall?.title).toBe('9 Jan 01:00: 3 failed, 1 cancelled, 6 completed');
  });

  test('without anything it is an empty grid, and durations of nothing and of days have places', () => {
    const empty = drawTrend(range, []);
    expect([empty.median, empty.p90, empty.points, empty.bars]).toEqual(['', '', [], []]);
    for (const seconds of [0, 0.001, 400_000]) {
      const { points, yTicks } = drawTrend(range, [bucket('2026-01-09T01:00:00.000Z', { completed: 1, ran: { median: seconds, p90: seconds } })]);
      expect(points[0]?.median).toBeGreaterThanOrEqual(yTicks[2]?.y ?? Infinity);
      expect(points[0]?.median).toBeLessThanOrEqual(yTicks[0]?.y ?? 0);
    }
  });

  test('labels are hours of a day, and days of longer ranges', () => {
    expect(drawTrend(range, []).xTicks.map(({ label }) => label)).toContain('14:00');
    const week = drawTrend({ from: '2026-01-02T10:00:00.000Z', until: '2026-01-09T10:00:00.000Z', bucketSeconds: 21_600 }, []);
    expect(week.xTicks.map(({ label }) => label)).toEqual(['3 Jan', '4 Jan', '5 Jan', '6 Jan', '7 Jan', '8 Jan', '9 Jan']);
    const month = drawTrend({ from: '2025-12-10T10:00:00.000Z', until: '2026-01-09T10:00:00.000Z', bucketSeconds: 86_400 }, []);
    expect(month.xTicks[0]?.label).toBe('10 Dec');
    expect(month.xTicks.length).toBeLessThanOrEqual(7);
  });

  test('counts of templates are added by bucket', () => {
    const [one, other] = [bucket('2026-01-09T02:00:00.000Z', { completed: 1 }), bucket('2026-01-09T01:00:00.000Z', { failed: 2 })];
    const sums = sumBuckets([{ buckets: [one] }, { buckets: [other, { ...one, cancelled: 4 }] }]);
    expect(sums).toEqual([other, { ...one, completed: 2, cancelled: 4 }]);
  });
});
