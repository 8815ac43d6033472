/** Texts for people from numbers and times; every view gets these functions as `f`. */

const second = 1_000;
const minute = 60 * second;
const hour = 60 * minute;
const day = 24 * hour;

/**
 * A span of time with its two largest units: `0.4 s`, `11 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
 * @param ms milliseconds; null gives a dash
 */
export function duration(ms: number | null): string {
  if (ms === null || !Number.isFinite(ms)) return '–';
  const span = Math.max(0, ms);
  if (span < 10 * second) return `${(span / second).toFixed(1)} s`;
  if (Math.round(span / second) < 60) return `${Math.round(span / second)} s`;
  const [large, small, largeUnit, smallUnit] =
    span < hour - second / 2 ? [minute, second, 'min', 's'] : span < day - minute / 2 ? [hour, minute, 'h', 'min'] : [day, hour, 'd', 'h'];
  const parts = Math.round(span / (small as number));
  const perLarge = (large as number) / (small as number);
  const rest = parts % perLarge;
  return rest === 0 ? `${Math.floor(parts / perLarge)} ${largeUnit}` : `${Math.floor(parts / perLarge)} ${largeUnit} ${rest} ${smallUnit}`;
}

/**
 * A moment as seen from now: `in 12 s`, `3 min ago`, `now`; with one unit, since it is read at a glance.
 * @param at ISO 8601, or null, which gives a dash
 */
export function relative(at: string | null, nowMs: number): string {
  if (at === null) return '–';
  const ms = Date.parse(at) - nowMs;
  const span = Math.abs(ms);
  if (span < second) return 'now';
  const text =
    span < minute - second / 2
      ? `${Math.round(span / second)} s`
      : span < hour - minute / 2
        ? `${Math.round(span / minute)} min`
        : span < day - hour / 2
          ? `${Math.round(span / hour)} h`
          : `${Math.round(span / day)} d`;
  return ms > 0 ? `in ${text}` : `${text} ago`;
}

/** A moment that is predicted, as seen from now; what was predicted to have happened by now may happen at any moment. */
export function expected(at: string | null, nowMs: number): string {
  return at !== null && Date.parse(at) < nowMs ? 'any moment' : relative(at, nowMs);
}

/** The time within which something is predicted: `12 s – 40 s`, `within 40 s` where it may be now. */
export function expectedWithin([earliest, latest]: readonly [string, string], nowMs: number): string {
  const [from, to] = [Date.parse(earliest) - nowMs, Date.parse(latest) - nowMs];
  if (to <= 0) return 'any moment';
  return from <= second ? `within ${duration(to)}` : `${duration(from)} – ${duration(to)}`;
}

/** A moment in full, in the time of the server's database: `2026-01-09 10:30:00 UTC`. Scripts of the page show it in the time of the reader. */
export function moment(at: string): string {
  return `${at.slice(0, 10)} ${at.slice(11, 19)} UTC`;
}

const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** A size with binary units: `4.6 GiB`; null gives a dash. */
export function bytes(count: number | null): string {
  if (count === null) return '–';
  let value = count;
  let unit = 0;
  while (Math.abs(value) >= 1_024 && unit < units.length - 1) {
    value /= 1_024;
    unit += 1;
  }
  return unit === 0 || Math.abs(value) >= 100 ? `${Math.round(value)} ${units[unit]}` : `${value.toFixed(1)} ${units[unit]}`;
}

/** A size that is given in GB of a billion bytes, as {@link bytes} says it. */
export function gigabytes(count: number | null): string {
  return bytes(count === null ? null : count * 1e9);
}

/** A number with thin spaces between thousands: `12 345`; null gives a dash. */
export function count(value: number | null): string {
  return value === null ? '–' : String(value).replace(/\B(?=(\d{3})+(?!\d))/g, ' ');
}

/** `1 task`, `2 tasks`. */
export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** The first eight characters of an id; the whole one stands in its title. */
export function shortId(id: string): string {
  return id.slice(0, 8);
}

/** Words of an identifier: `waiting_model` is `waiting model`. */
export function words(identifier: string): string {
  return identifier.replaceAll('_', ' ');
}

/** The address of a page with other values in its query; null takes one away. */
export function withQuery(url: URL, changes: Readonly<Record<string, string | number | null>>): string {
  const query = new URLSearchParams(url.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === '') query.delete(name);
    else query.set(name, String(value));
  }
  const text = query.toString();
  return text === '' ? url.pathname : `${url.pathname}?${text}`;
}
