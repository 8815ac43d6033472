import { visibleLine } from './visible.js';

const units = [
  ['d', 86_400],
  ['h', 3_600],
  ['min', 60],
  ['s', 1],
] as const;

/** A span in its two largest units at most, such as `2 h 5 min`. */
export function span(seconds: number): string {
  if (seconds < 1) return `${Math.round(seconds * 1_000)} ms`;
  const whole = Math.round(seconds);
  const at = units.findIndex(([, size]) => whole >= size);
  const [unit, size] = units[at] ?? ['s', 1];
  const next = units[at + 1];
  const rest = next === undefined ? 0 : Math.floor((whole % size) / next[1]);
  return `${Math.floor(whole / size)} ${unit}${next === undefined || rest === 0 ? '' : ` ${rest} ${next[0]}`}`;
}

/** How long ago, or in how long, in one unit: `3 min ago`, `in 2 h`. */
export function relative(time: string, nowMs: number): string {
  const seconds = (nowMs - Date.parse(time)) / 1_000;
  const far = Math.abs(seconds);
  if (far < 1) return 'now';
  const [unit, size] = units.find(([, each]) => far >= each) ?? ['s', 1];
  const text = `${Math.floor(far / size)} ${unit}`;
  return seconds >= 0 ? `${text} ago` : `in ${text}`;
}

/** Both ways: `2026-01-09 10:30:00Z (3 min ago)`. */
export function moment(time: string | null, nowMs: number): string {
  return time === null ? '' : `${visibleLine(time.slice(0, 19)).replace('T', ' ')}Z (${relative(time, nowMs)})`;
}

/**
 * Reads a point in time as people give it: ISO 8601, or a span such as `90s`, `15min`, `2h`, `7d` before now.
 * @returns ISO 8601 in UTC, or undefined when it is neither
 */
export function parseSince(text: string, nowMs: number): string | undefined {
  const [, amount, unit = ''] = /^(\d{1,6})\s*(s|m|min|h|d|w)$/.exec(text.trim()) ?? [];
  if (amount !== undefined) {
    const seconds = { s: 1, m: 60, min: 60, h: 3_600, d: 86_400, w: 604_800 }[unit] ?? 1;
    return new Date(nowMs - Number(amount) * seconds * 1_000).toISOString();
  }
  const ms = /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(ms) ? undefined : new Date(ms).toISOString();
}
