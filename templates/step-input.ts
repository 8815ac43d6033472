import type { z } from 'zod';
import type { JsonObject, JsonValue } from '../contract/json.js';
import type { YamlPath } from './fault.js';
import { hasExpression } from './expression.js';
import { check, type Issue } from './issues.js';

export interface SourceString {
  readonly path: YamlPath;
  readonly source: string;
}

/** Every string of a value that is to be rendered, with its place. */
export function expressionsIn(value: JsonValue, path: YamlPath = []): SourceString[] {
  if (typeof value === 'string') return hasExpression(value) ? [{ path, source: value }] : [];
  if (Array.isArray(value)) return value.flatMap((item, index) => expressionsIn(item, [...path, index]));
  if (typeof value === 'object' && value !== null) return Object.entries(value).flatMap(([key, item]) => expressionsIn(item, [...path, key]));
  return [];
}

/** A copy without the strings at these paths; in a list an empty text keeps the place. */
export function withoutPaths(value: JsonObject, paths: readonly YamlPath[]): JsonObject {
  const strip = (at: JsonValue, path: YamlPath): JsonValue => {
    const gone = (key: string | number) => paths.some((other) => other.length === path.length + 1 && isPrefix(path, other) && other.at(-1) === key);
    if (Array.isArray(at)) return at.map((item, index) => (gone(index) ? '' : strip(item, [...path, index])));
    if (typeof at !== 'object' || at === null) return at;
    const kept = Object.entries(at).filter(([key]) => !gone(key));
    return Object.fromEntries(kept.map(([key, item]) => [key, strip(item, [...path, key])]));
  };
  return strip(value, []) as JsonObject;
}

/**
 * Checks a step's input, of which some values are not known yet.
 * @param unknown where they stand; what is found there, above or below says nothing and is dropped
 */
export function checkInput(schema: z.ZodObject, input: JsonObject, unknown: readonly YamlPath[]): Issue[] {
  const strict = schema.def.catchall ? schema : schema.strict();
  return check(strict, withoutPaths(input, unknown)).filter(
    (issue) => issue.key !== null || !unknown.some((path) => isPrefix(path, issue.path) || isPrefix(issue.path, path)),
  );
}

function isPrefix(short: YamlPath, long: YamlPath): boolean {
  return short.length <= long.length && short.every((part, index) => part === long[index]);
}
