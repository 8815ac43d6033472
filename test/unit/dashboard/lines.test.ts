import { describe, expect, test } from 'vitest';
import { drawLines, niceAbove } from '../../../dashboard/drawings/lines.js';

const from = '2026-01-09T10:00:00.000Z';
const until = '2026-01-09T11:00:00.000Z';
const at = (minute: number) => new Date(Date.parse(from) + minute * 60_000).toISOString();
const draw = (values: readonly (readonly [minute: number, value: number | null])[], max: number | null = 1) =>
  drawLines([{ name: 'CPU', kind: 'one', points: values.map(([minute, value]) => ({ at: at(minute), value })) }], { from, until, stepSeconds: 60 }, max);

describe('lines over time [DASH-05]', () => {
  test('neighbours are joined; where nothing was measured there is a gap, and a lone value is a dot', () => {
    const [line] = draw([
      [0, 0.5],
      [1, 1],
      [2, null],
      [3, 0.2],
      [20, 0.1],
      [21, 0.1],
    ]).lines;
    expect(line?.path.match(/M/g)).toHaveLength(2);
    expect(line?.path).toMatch(/^M46 69L54\.5 8M/);
    expect(line?.dots).toHaveLength(1);
  });

  test('what is beyond the scale or the time is drawn at its edge', () => {
    const drawing = draw([
      [-10, 7],
      [0, -1],
    ]);
    expect(drawing.lines[0]?.path).toBe('');
    expect(drawing.lines[0]?.dots).toEqual([
      { x: 46, y: 8 },
      { x: 46, y: 130 },
    ]);
  });

  test('without values there is a scale and no line', () => {
    const drawing = draw([], null);
    expect(drawing.lines[0]).toMatchObject({ path: '', dots: [] });
    expect(drawing.yTicks.map(({ value }) => value)).toEqual([0, 0.5, 1]);
    expect(drawing.xTicks[0]).toMatchObject({ minutesAgo: 0 });
  });

  test.each([
    [0, 1],
    [0.3, 0.5],
    [1, 1],
    [1.1, 2],
    [37, 50],
    [50, 50],
    [51, 100],
    [999, 1_000],
  ])('the scale above %d ends at %d', (value, top) => {
    expect(niceAbove(value)).toBeCloseTo(top);
  });
});
