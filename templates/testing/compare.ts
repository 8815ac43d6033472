import type { JsonValue } from '../../contract/json.js';
import type { YamlPath } from '../fault.js';
import { describeValue } from '../issues.js';

/** One place where a value is not what was expected. */
export interface Mismatch {
  /** below the compared value */
  readonly path: YamlPath;
  readonly text: string;
}

/**
 * Where a value lacks what is expected of it. Objects may have more fields than are expected; lists have the same length, and all else is equal.
 * `{$contains: text}` or `{$contains: [texts]}` stands for a text with these parts, `{$absent: true}` for a field that is left out.
 */
export function mismatches(expected: JsonValue, got: JsonValue | undefined, path: YamlPath = []): Mismatch[] {
  const matcher = matcherOf(expected);
  if (matcher !== null) return matcher(got).map((text) => ({ path, text }));
  if (Array.isArray(expected) && Array.isArray(got)) {
    if (expected.length !== got.length) return [{ path, text: `expected ${expected.length} items, got ${got.length}` }];
    return expected.flatMap((item, index) => mismatches(item, got[index], [...path, index]));
  }
  if (isObject(expected) && isObject(got)) {
    return Object.entries(expected).flatMap(([key, item]) => mismatches(item, Object.hasOwn(got, key) ? got[key] : undefined, [...path, key]));
  }
  if (expected === got) return [];
  return [{ path, text: differing(expected, got) }];
}

/** Keys and items of a value that a schema has dropped from it. */
export function lostKeys(given: JsonValue, kept: JsonValue | undefined, path: YamlPath = []): YamlPath[] {
  if (Array.isArray(given)) return given.flatMap((item, index) => lostKeys(item, Array.isArray(kept) ? kept[index] : undefined, [...path, index]));
  if (!isObject(given)) return [];
  return Object.entries(given).flatMap(([key, item]) => {
    if (!isObject(kept) || !Object.hasOwn(kept, key)) return [[...path, key]];
    return lostKeys(item, kept[key], [...path, key]);
  });
}

function matcherOf(expected: JsonValue): ((got: JsonValue | undefined) => string[]) | null {
  if (!isObject(expected)) return null;
  const [key, ...others] = Object.keys(expected);
  if (others.length > 0) return null;
  if (key === '$absent') return (got) => (got === undefined ? [] : [`expected nothing, got ${describeValue(got)}`]);
  if (key !== '$contains') return null;
  const wanted = expected['$contains'] as JsonValue;
  const parts = (Array.isArray(wanted) ? wanted : [wanted]).map(String);
  return (got) => {
    if (typeof got !== 'string') return [`expected a text, got ${describeValue(got)}`];
    return parts.filter((part) => !got.includes(part)).map((part) => `expected a text with ${JSON.stringify(part)}, got ${describeValue(got)}`);
  };
}

/** Of two long texts the beginning tells nothing; it is shown where they part. */
function differing(expected: JsonValue, got: JsonValue | undefined): string {
  if (typeof expected !== 'string' || typeof got !== 'string') return `expected ${describeValue(expected)}, got ${describeValue(got)}`;
  let at = 0;
  while (at < expected.length && expected[at] === got[at]) at++;
  const from = Math.max(0, at - 20);
  const part = (text: string) => `${from > 0 ? '...' : ''}${JSON.stringify(text.slice(from, from + 60))}${text.length > from + 60 ? '...' : ''}`;
  return `expected ${part(expected)}, got ${part(got)}`;
}

function isObject(value: JsonValue | undefined): value is Record<string, JsonValue> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
