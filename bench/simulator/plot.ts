/** One line of a chart. */
export interface Series {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
  /** drawn thick: what the chart is about */
  readonly ours?: boolean;
}

export interface Chart {
  readonly title: string;
  readonly x: { readonly name: string; readonly ticks: readonly number[]; readonly log?: boolean };
  readonly y: { readonly name: string; readonly ticks: readonly number[]; readonly log?: boolean };
  readonly series: readonly Series[];
}

const [width, height] = [640, 360];
const frame = { left: 64, right: 168, top: 36, bottom: 44 };
/** Of middling brightness, so that they are seen on a light page and on a dark one. */
const colours = ['#d9480f', '#1c7ed6', '#2f9e44', '#ae3ec9', '#868e96', '#e8a317', '#0c8599'];
const ink = '#808890';

/** A small SVG file of its own: no style, font or script from elsewhere, and no background. */
export function svgOf({ title, x, y, series }: Chart): string {
  const place = (axis: Chart['x'], from: number, to: number) => {
    const scale = (value: number) => (axis.log ? Math.log10(value) : value);
    const [low, high] = [scale(axis.ticks[0] ?? 0), scale(axis.ticks.at(-1) ?? 1)];
    return (value: number) => round(from + ((scale(value) - low) / (high - low)) * (to - from));
  };
  const [atX, atY] = [place(x, frame.left, width - frame.right), place(y, height - frame.bottom, frame.top)];
  const right = width - frame.right;
  const grid = y.ticks.map(
    (tick) =>
      `<path d="M${frame.left} ${atY(tick)}H${right}" stroke="${ink}" stroke-opacity=".25"/><text x="${frame.left - 6}" y="${atY(tick) + 4}" text-anchor="end">${tick}</text>`,
  );
  const marks = x.ticks.map((tick) => `<text x="${atX(tick)}" y="${height - frame.bottom + 16}" text-anchor="middle">${tick}</text>`);
  const lines = series.map(({ name, points, ours }, index) => {
    const colour = colours[index % colours.length];
    const path = points.map(([px, py], at) => `${at === 0 ? 'M' : 'L'}${atX(px)} ${atY(py)}`).join('');
    const legend = frame.top + 8 + index * 18;
    return `<path d="${path}" fill="none" stroke="${colour}" stroke-width="${ours ? 3 : 1.5}"/><path d="M${right + 12} ${legend}h18" stroke="${colour}" stroke-width="${ours ? 3 : 1.5}"/><text x="${right + 36}" y="${legend + 4}">${name}</text>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${title}" font-family="sans-serif" font-size="12" fill="${ink}">`,
    `<text x="${frame.left}" y="20" font-size="14">${title}</text>`,
    ...grid,
    ...marks,
    ...lines,
    `<text x="${(frame.left + right) / 2}" y="${height - 8}" text-anchor="middle">${x.name}</text>`,
    `<text x="14" y="${(frame.top + height - frame.bottom) / 2}" text-anchor="middle" transform="rotate(-90 14 ${(frame.top + height - frame.bottom) / 2})">${y.name}</text>`,
    '</svg>',
    '',
  ].join('\n');
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
