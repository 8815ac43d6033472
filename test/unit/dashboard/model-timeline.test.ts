import { expect, test } from 'vitest';
import type { ModelTimelineView } from '../../../contract/schemas/model-timeline.js';
import { drawTimeline } from '../../../dashboard/drawings/model-timeline.js';

const at = (minutes: number) => new Date(Date.parse('2026-01-09T10:00:00.000Z') + minutes * 60_000).toISOString();
const held = (model: string, from: number, until: number | null, state: ModelTimelineView['held'][number]['state'] = 'serving', host = 'a') => ({
  host,
  model,
  state,
  from: at(from),
  until: until === null ? null : at(until),
});
const timeline = (more: Partial<ModelTimelineView>): ModelTimelineView => ({ from: at(-60), now: at(0), until: at(60), held: [], steps: [], ...more });

test('past, now and forecast stand on one scale, and what is so now ends now [DASH-04]', () => {
  const drawing = drawTimeline(timeline({ held: [held('m', -30, null), held('m', 30, 60, 'planned')] }), ['a']);
  const [lane] = drawing.lanes;
  expect(drawing.lanes).toHaveLength(1);
  const [now, planned] = lane?.held ?? [];
  expect((now?.x ?? 0) + (now?.width ?? 0)).toBeCloseTo(drawing.nowX, 0);
  expect((planned?.x ?? 0) + (planned?.width ?? 0)).toBeCloseTo(drawing.width, 0);
  expect(now?.title).toBe('m: serves, 1800 s');
});

test('nothing is drawn outside, and what is short can be seen', () => {
  const drawing = drawTimeline(timeline({ held: [held('m', -600, 600), held('n', 0, 0.0001)] }), ['a']);
  for (const { x, width } of drawing.lanes.flatMap((lane) => lane.held)) {
    expect(x).toBeGreaterThanOrEqual(190);
    expect(x + width).toBeLessThanOrEqual(drawing.width + 2);
    expect(width).toBeGreaterThanOrEqual(1.5);
  }
});

test('each host has its lanes, those held now first, and no more than there is room for', () => {
  const many = Array.from({ length: 40 }, (_, index) => held(`old-${String(index).padStart(2, '0')}`, -50, -40 + index / 100));
  const drawing = drawTimeline(timeline({ held: [...many, held('now', -5, null), held('other', -5, null, 'serving', 'b')] }), ['a', 'b', 'idle']);
  expect(drawing.hosts.map(({ host }) => host)).toEqual(['a', 'b', 'idle']);
  expect(drawing.lanes.map(({ model }) => model).slice(0, 2)).toEqual(['now', 'old-39']);
  expect(drawing.lanes).toHaveLength(17);
  const ys = [...drawing.hosts, ...drawing.lanes].map(({ y }) => y);
  expect(new Set(ys).size).toBe(ys.length);
});

test('a tick stands at now, and ticks are few', () => {
  for (const minutes of [15, 60, 360, 1_440]) {
    const { ticks, nowX } = drawTimeline({ ...timeline({}), from: at(-minutes), until: at(minutes) }, []);
    expect(ticks.find(({ label }) => label === 'now')?.x).toBeCloseTo(nowX, 0);
    expect(ticks.length).toBeLessThanOrEqual(14);
    expect(ticks.length).toBeGreaterThanOrEqual(4);
  }
});
