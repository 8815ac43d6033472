import { z } from 'zod';
import { suggestion } from './nearest.js';

export interface Issue {
  readonly path: readonly (string | number)[];
  /** the key that is not known, else null */
  readonly key: string | null;
  readonly expected: string;
  readonly got: string;
  /** `expected integer, got string "a"`, without the place */
  readonly text: string;
  readonly allowed?: readonly string[];
}

/** Checks a value and puts what zod finds into our words, every fault once. */
export function check(schema: z.ZodType, value: unknown): Issue[] {
  const result = schema.safeParse(value);
  return result.success ? [] : result.error.issues.flatMap((issue) => translate(schema, issue, value));
}

/** The names of the fields that an object schema knows. */
export function fieldNames(schema: z.ZodObject): string[] {
  return Object.keys(schema.shape);
}

function translate(schema: z.ZodType, issue: z.core.$ZodIssue, value: unknown): Issue[] {
  const path = issue.path.filter((part): part is string | number => typeof part !== 'symbol');
  const found = valueAt(value, path);
  if (issue.code === 'unrecognized_keys') {
    const allowed = keysAt(schema, path);
    return issue.keys.map((key) => ({
      path,
      key,
      expected: `one of ${allowed.join(', ')}`,
      got: JSON.stringify(key),
      text: `unknown key ${JSON.stringify(key)}${suggestion(key, allowed)}; allowed: ${allowed.join(', ')}`,
      allowed,
    }));
  }
  const got = describeValue(found);
  if (issue.code === 'invalid_value') {
    const allowed = issue.values.map(String);
    const near = typeof found === 'string' ? suggestion(found, allowed) : '';
    return [
      {
        path,
        key: null,
        expected: `one of ${allowed.join(', ')}`,
        got,
        text: found === undefined ? 'is missing' : `expected one of ${allowed.join(', ')}, got ${got}${near}`,
        allowed,
      },
    ];
  }
  if (issue.code === 'invalid_union') {
    // The form that fits but for something deeper is the one that was meant; its faults say more than "none of these".
    const meant = issue.errors.find((errors) => errors.length > 0 && errors.every((error) => error.path.length > 0));
    if (meant) return meant.flatMap((error) => translate(schema, { ...error, path: [...issue.path, ...error.path] }, value));
  }
  const expected = expectation(issue);
  if (expected === issue.message && found !== undefined) return [{ path, key: null, expected, got, text: `${expected}; got ${got}` }];
  const text = found === undefined ? `is missing; expected ${expected}` : `expected ${expected}, got ${got}${booleanHint(issue, found)}`;
  return [{ path, key: null, expected, got, text }];
}

/** zod's names of types where ours differ. */
const typeNames: Record<string, string | undefined> = { int: 'integer', record: 'object', nonoptional: 'a value' };

function expectation(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return typeNames[issue.expected] ?? issue.expected;
    case 'too_small':
      return `${issue.inclusive === false ? 'more than' : 'at least'} ${issue.minimum}${unit(issue.origin, issue.minimum)}`;
    case 'too_big':
      return `${issue.inclusive === false ? 'less than' : 'at most'} ${issue.maximum}${unit(issue.origin, issue.maximum)}`;
    case 'invalid_union': {
      const options = issue.errors.flatMap((errors) => errors.filter((error) => error.path.length === 0).map(expectation));
      return options.length > 0 ? [...new Set(options)].join(' or ') : 'one of the allowed forms';
    }
    case 'invalid_value':
      return `one of ${issue.values.map(String).join(', ')}`;
    case 'invalid_format':
      // A message of our own says more than the pattern does.
      return issue.message.startsWith('Invalid') ? `text that matches ${'pattern' in issue ? issue.pattern : issue.format}` : issue.message;
    case 'not_multiple_of':
      return `a multiple of ${issue.divisor}`;
    default:
      return issue.message.startsWith('Invalid') ? 'another value' : issue.message;
  }
}

function unit(origin: string, count: number | bigint): string {
  const plural = Number(count) === 1 ? '' : 's';
  if (origin === 'string') return ` character${plural}`;
  if (origin === 'array' || origin === 'set') return ` item${plural}`;
  return '';
}

/** YAML 1.2 reads `yes` and `on` as text, where PyYAML reads booleans. */
function booleanHint(issue: z.core.$ZodIssue, found: unknown): string {
  const meant = issue.code === 'invalid_type' && issue.expected === 'boolean' && typeof found === 'string' && /^(yes|no|on|off)$/i.exec(found);
  return meant ? `; write ${/^(yes|on)$/i.test(found) ? 'true' : 'false'}` : '';
}

/** A value in a message: its type and its beginning. */
export function describeValue(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'null';
  if (Array.isArray(value)) return `array of ${value.length}`;
  if (typeof value === 'object') return 'object';
  const text = JSON.stringify(value) ?? String(value);
  return `${typeof value} ${text.length > 60 ? `${text.slice(0, 57)}...` : text}`;
}

function valueAt(value: unknown, path: readonly (string | number)[]): unknown {
  return path.reduce<unknown>(
    (at, part) => (typeof at === 'object' && at !== null && Object.hasOwn(at, part) ? (at as Record<string | number, unknown>)[part] : undefined),
    value,
  );
}

function keysAt(schema: z.ZodType, path: readonly (string | number)[]): string[] {
  let at: z.ZodType | undefined = schema;
  for (const part of path) at = at && below(unwrap(at), part);
  const object = at && unwrap(at);
  return object instanceof z.ZodObject ? fieldNames(object) : [];
}

function below(schema: z.ZodType, part: string | number): z.ZodType | undefined {
  if (schema instanceof z.ZodObject) return schema.shape[part] as z.ZodType | undefined;
  if (schema instanceof z.ZodArray) return schema.element as z.ZodType;
  return undefined;
}

function unwrap(schema: z.ZodType): z.ZodType {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodNullable || schema instanceof z.ZodPrefault)
    return unwrap(schema.def.innerType as z.ZodType);
  return schema;
}
