/** Values over time; null leaves a gap. */
export interface Line {
  readonly name: string;
  /** class of the style, which gives the colour */
  readonly kind: string;
  readonly points: readonly { readonly at: string; readonly value: number | null }[];
}

/** Lengths are pixels of a drawing of `width`; it is scaled to the room there is. */
export interface LinesDrawing {
  readonly width: number;
  readonly height: number;
  readonly left: number;
  readonly bottom: number;
  readonly yTicks: readonly { readonly y: number; readonly value: number }[];
  readonly xTicks: readonly { readonly x: number; readonly minutesAgo: number }[];
  /** `path`: of an SVG path; `dots`: values that stand alone, which a path would not show */
  readonly lines: readonly {
    readonly name: string;
    readonly kind: string;
    readonly path: string;
    readonly dots: readonly { readonly x: number; readonly y: number }[];
  }[];
}

/** Of a drawing that has half of a page, and a third: letters are as large in both. */
const halfWidth = 560;
export const thirdWidth = 400;
const drawnHeight = 150;
const left = 46;
const top = 8;
const bottom = drawnHeight - 20;
const tickMinutes = [10, 20, 60, 120, 240] as const;
/** Points further apart than so many steps are not joined: nobody measured between them. */
const gapSteps = 3;

/**
 * Where everything of some lines is drawn, on one scale from 0 on.
 * @param span `from` and `until` ISO 8601; `stepSeconds` between two points
 * @param max the top of the scale; null: the next round number above the values
 * @param width pixels; default: that of half a page
 */
export function drawLines(
  lines: readonly Line[],
  span: { readonly from: string; readonly until: string; readonly stepSeconds: number },
  max: number | null,
  width = halfWidth,
): LinesDrawing {
  const [fromMs, untilMs] = [Date.parse(span.from), Date.parse(span.until)];
  const highest = Math.max(0, ...lines.flatMap(({ points }) => points.map(({ value }) => value ?? 0)));
  const scaleMax = max ?? niceAbove(highest);
  const xOf = (ms: number) => round(left + ((Math.min(untilMs, Math.max(fromMs, ms)) - fromMs) / Math.max(1, untilMs - fromMs)) * (width - left - 4));
  const yOf = (value: number) => round(bottom - (Math.min(scaleMax, Math.max(0, value)) / scaleMax) * (bottom - top));
  const minutes = (untilMs - fromMs) / 60_000;
  const every = tickMinutes.find((each) => minutes / each <= (width < halfWidth ? 4 : 7)) ?? 480;
  return {
    width,
    height: drawnHeight,
    left,
    bottom,
    yTicks: [0, 0.5, 1].map((share) => ({ y: yOf(share * scaleMax), value: share * scaleMax })),
    xTicks: Array.from({ length: Math.floor(minutes / every) + 1 }, (_, index) => ({ x: xOf(untilMs - index * every * 60_000), minutesAgo: index * every })),
    lines: lines.map(({ name, kind, points }) => {
      const runs = runsOf(points, span.stepSeconds * 1_000 * gapSteps).map((run) => run.map(({ ms, value }) => ({ x: xOf(ms), y: yOf(value) })));
      return {
        name,
        kind,
        path: runs
          .filter(({ length }) => length > 1)
          .map((run) => `M${run.map(({ x, y }) => `${x} ${y}`).join('L')}`)
          .join(''),
        dots: runs.flatMap((run) => (run.length === 1 ? run : [])),
      };
    }),
  };
}

/** Points that are joined: neighbours with values, not too far apart. */
function runsOf(points: Line['points'], gapMs: number): { readonly ms: number; readonly value: number }[][] {
  const runs: { ms: number; value: number }[][] = [];
  let last: { ms: number; value: number } | null = null;
  for (const { at, value } of points) {
    if (value === null) {
      last = null;
      continue;
    }
    const point = { ms: Date.parse(at), value };
    if (last === null || point.ms - last.ms > gapMs) runs.push([point]);
    else runs.at(-1)?.push(point);
    last = point;
  }
  return runs;
}

/** The next of 1, 2, 5, 10, 20, ... that is not below a value; 1 for 0. */
export function niceAbove(value: number): number {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5].map((factor) => factor * power).find((each) => each >= value - 1e-9) ?? 10 * power;
}

const round = (value: number) => Math.round(value * 10) / 10;
