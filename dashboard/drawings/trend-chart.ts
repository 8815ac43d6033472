import type { TrendBucketView } from '../../contract/schemas/reports.js';
import type { FinalStatus } from '../../contract/status.js';
import { duration } from '../format.js';

/** Lengths are units of a drawing of `width` by `height`, scaled to the room there is. */
export interface TrendDrawing {
  readonly width: number;
  readonly height: number;
  /** left end of the lines of the grid */
  readonly left: number;
  readonly xTicks: readonly { readonly x: number; readonly label: string }[];
  /** of durations */
  readonly yTicks: readonly { readonly y: number; readonly label: string }[];
  /** paths; empty when there is nothing to draw */
  readonly median: string;
  readonly p90: string;
  /** one for each bucket in which something completed */
  readonly points: readonly { readonly x: number; readonly median: number; readonly p90: number; readonly title: string }[];
  readonly bars: readonly { readonly x: number; readonly width: number; readonly title: string; readonly parts: readonly Part[] }[];
  /** where the bars stand */
  readonly floor: number;
}

interface Part {
  readonly kind: FinalStatus;
  readonly y: number;
  readonly height: number;
}

/** about that of a card, so that its letters are as large as others */
const chartWidth = 440;
const left = 52;
const right = 8;
const linesTop = 12;
const linesBottom = 122;
const barsTop = 136;
const barsBottom = 182;
const height = 200;
const labelsMax = 7;
const stacked = ['failed', 'cancelled', 'completed'] as const satisfies readonly FinalStatus[];

/**
 * Durations as lines above, counts as stacked bars below, both by bucket. A line is broken where nothing completed.
 * @param range ISO 8601; buckets begin at multiples of `bucketSeconds` since 1970
 */
export function drawTrend(
  range: { readonly from: string; readonly until: string; readonly bucketSeconds: number },
  buckets: readonly TrendBucketView[],
  width: number = chartWidth,
): TrendDrawing {
  const bucketMs = range.bucketSeconds * 1_000;
  const firstMs = Math.floor(Date.parse(range.from) / bucketMs) * bucketMs;
  const count = Math.max(1, Math.floor(Date.parse(range.until) / bucketMs) - firstMs / bucketMs + 1);
  const pitch = (width - left - right) / count;
  const placeOf = (at: string) => Math.round((Date.parse(at) - firstMs) / bucketMs);
  const shown = buckets.filter(({ at }) => placeOf(at) >= 0 && placeOf(at) < count);

  const top = niceCeiling(Math.max(0, ...shown.map(({ ran }) => ran.p90 ?? 0)));
  const yOf = (seconds: number) => round(linesBottom - (seconds / top) * (linesBottom - linesTop));
  const xOf = (at: string) => round(left + (placeOf(at) + 0.5) * pitch);
  const points = shown.flatMap(({ at, ran, completed }) => {
    if (ran.median === null || ran.p90 === null) return [];
    const title = `${bucketLabel(at, bucketMs)}: median ${duration(ran.median * 1_000)}, 90 % within ${duration(ran.p90 * 1_000)}, ${completed} completed`;
    return [{ x: xOf(at), median: yOf(ran.median), p90: yOf(ran.p90), title, place: placeOf(at) }];
  });

  const most = Math.max(1, ...shown.map(endedOf));
  const bars = shown.map((bucket) => {
    let y = barsBottom;
    const parts = stacked.flatMap((kind) => {
      if (bucket[kind] === 0) return [];
      const part = Math.max(1, (bucket[kind] / most) * (barsBottom - barsTop));
      y -= part;
      return [{ kind, y: round(y), height: round(part) }];
    });
    return { x: round(left + placeOf(bucket.at) * pitch + pitch * 0.14), width: round(pitch * 0.72), title: countsTitle(bucket, bucketMs), parts };
  });

  return {
    width,
    height,
    left,
    xTicks: ticksOf(firstMs, bucketMs, count).map(({ place, label }) => ({ x: round(left + (place + 0.5) * pitch), label })),
    yTicks: [0, top / 2, top].map((seconds) => ({ y: yOf(seconds), label: duration(seconds * 1_000).replace(/^0\.0 s$/, '0') })),
    median: pathOf(points.map(({ x, median, place }) => ({ x, y: median, place }))),
    p90: pathOf(points.map(({ x, p90, place }) => ({ x, y: p90, place }))),
    points,
    bars,
    floor: barsBottom,
  };
}

/** Sums of the buckets of several templates; durations cannot be added and are left out. */
export function sumBuckets(templates: readonly { readonly buckets: readonly TrendBucketView[] }[]): TrendBucketView[] {
  const none = { median: null, p90: null };
  const sums = new Map<string, TrendBucketView>();
  for (const { buckets } of templates) {
    for (const { at, completed, failed, cancelled } of buckets) {
      const sum = sums.get(at) ?? { at, completed: 0, failed: 0, cancelled: 0, ran: none, waited: none };
      sums.set(at, { ...sum, completed: sum.completed + completed, failed: sum.failed + failed, cancelled: sum.cancelled + cancelled });
    }
  }
  return [...sums.values()].sort((a, b) => (a.at < b.at ? -1 : 1));
}

const steps = [1, 2, 4, 10, 20, 30, 60, 120, 240, 600, 1_200, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400];

/** The next round duration, in seconds, whose half is round too. */
function niceCeiling(seconds: number): number {
  if (seconds <= 1) return seconds <= 0.2 ? 0.2 : 1;
  return steps.find((step) => step >= seconds) ?? Math.ceil(seconds / 86_400) * 86_400;
}

/** A path through points; one that stands alone is left to its dot. */
function pathOf(points: readonly { readonly x: number; readonly y: number; readonly place: number }[]): string {
  return points.map(({ x, y, place }, index) => `${index > 0 && points[index - 1]?.place === place - 1 ? 'L' : 'M'}${x} ${y}`).join('');
}

function ticksOf(firstMs: number, bucketMs: number, count: number) {
  const every = Math.ceil(count / labelsMax);
  const perDay = Math.round(86_400_000 / bucketMs);
  // Of buckets shorter than a day and longer than an hour, days are labelled where they begin.
  const step = perDay > 1 && perDay < 24 ? perDay : every;
  const offset = perDay > 1 && perDay < 24 ? (perDay - (Math.round(firstMs / bucketMs) % perDay)) % perDay : 0;
  const ticks = [];
  for (let place = offset; place < count; place += step) {
    const at = new Date(firstMs + place * bucketMs).toISOString();
    ticks.push({ place, label: perDay >= 24 ? at.slice(11, 16) : dayOf(at) });
  }
  return ticks;
}

const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

function dayOf(at: string): string {
  return `${Number(at.slice(8, 10))} ${months[Number(at.slice(5, 7)) - 1]}`;
}

function bucketLabel(at: string, bucketMs: number): string {
  return bucketMs >= 86_400_000 ? dayOf(at) : `${dayOf(at)} ${at.slice(11, 16)}`;
}

function countsTitle(bucket: TrendBucketView, bucketMs: number): string {
  const counts = stacked.filter((kind) => bucket[kind] > 0).map((kind) => `${bucket[kind]} ${kind}`);
  return `${bucketLabel(bucket.at, bucketMs)}: ${counts.join(', ')}`;
}

function endedOf({ completed, failed, cancelled }: TrendBucketView): number {
  return completed + failed + cancelled;
}

const round = (value: number) => Math.round(value * 10) / 10;
