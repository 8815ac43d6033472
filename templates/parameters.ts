import { runInNewContext } from 'node:vm';
import type { JsonObject, JsonValue } from '../contract/json.js';
import type { ParameterDeclaration } from '../contract/schemas/template.js';
import type { SubmissionFault } from './fault.js';
import { describeValue } from './issues.js';
import { suggestion } from './nearest.js';

/** All parameters of one task, as JSON. Larger data belongs into files: a plan travels through Temporal, which takes 2 MB. */
export const parametersBytesMax = 512 * 1024;
export const parameterDepthMax = 32;
export const arrayItemsMax = 10_000;
/** Unknown names that are told one by one; the rest is counted. */
const unknownShownMax = 20;
/** Time for one pattern on one value; a pattern such as `^(a+)+$` takes for ever on some. Wall time, so generous to a busy machine. */
export const patternMsMax = 250;

/** Whether a value has a match of a pattern; null when that takes too long. The default holds the thread meanwhile, so a server gives another one. */
export type Match = (pattern: string, value: string) => boolean | null;

export interface DeclarationFault {
  readonly key: keyof ParameterDeclaration;
  readonly text: string;
  /** the pattern was cut off by its time limit; whoever checks more of them stops here, so that they do not add up */
  readonly endless?: boolean;
}

/** What is wrong with a declaration in itself, as sentences with the key they are about. */
export function declarationFaults(declaration: ParameterDeclaration, match: Match = matchesPattern): DeclarationFault[] {
  const faults: DeclarationFault[] = [];
  const { type, min, max, pattern } = declaration;
  if (declaration.required && declaration.default !== undefined)
    faults.push({ key: 'default', text: 'a required parameter has no default; leave one of them out' });
  if (min !== undefined && max !== undefined && min > max) faults.push({ key: 'min', text: `min ${min} is larger than max ${max}` });
  for (const key of ['min', 'max'] as const) {
    if (declaration[key] !== undefined && (type === 'boolean' || type === 'object')) faults.push({ key, text: `${key} has no meaning for type ${type}` });
  }
  if (pattern !== undefined && type !== 'string') faults.push({ key: 'pattern', text: `pattern has no meaning for type ${type}, only for string` });
  if (pattern !== undefined && !isPattern(pattern)) faults.push({ key: 'pattern', text: `${JSON.stringify(pattern)} is not a regular expression` });
  if (declaration.enum && !['string', 'integer', 'number'].includes(type)) faults.push({ key: 'enum', text: `enum has no meaning for type ${type}` });
  for (const value of declaration.enum ?? []) {
    if (!isOfType(value, type)) faults.push({ key: 'enum', text: `enum has ${describeValue(value)}, which is no ${type}` });
  }
  if (faults.length === 0 && declaration.default !== undefined) {
    const fault = valueFault(declaration, declaration.default, match);
    if (fault) faults.push({ key: 'default', text: `the default: expected ${fault.expected}, got ${fault.got}`, endless: fault.endless === true });
  }
  return faults;
}

/**
 * Checks what a caller gave against what a template declares; every fault at once.
 * @param given untrusted; null for an optional parameter means absent
 * @returns the parameters that have a value, defaults filled in, as a copy
 */
export function checkParameters(
  declarations: readonly ParameterDeclaration[],
  given: unknown,
  match: Match = matchesPattern,
): { values: JsonObject } | { faults: SubmissionFault[] } {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    return {
      faults: [{ path: 'parameters', expected: 'object', got: describeValue(given), message: `parameters: expected object, got ${describeValue(given)}` }],
    };
  }
  const faults: SubmissionFault[] = [];
  const fault = (name: string, expected: string, got: string) =>
    faults.push({ path: `parameters.${name}`, expected, got, message: `parameter "${name}": expected ${expected}, got ${got}` });
  const known = declarations.map((declaration) => declaration.name);
  const unknown = Object.keys(given).filter((name) => !known.includes(name));
  for (const name of unknown.slice(0, unknownShownMax)) {
    const shown = name.slice(0, 100);
    faults.push({
      path: `parameters.${shown}`,
      expected: known.length === 0 ? 'no parameters' : `one of ${known.join(', ')}`,
      got: shown,
      message: `unknown parameter ${JSON.stringify(shown)}${suggestion(shown, known)}; the template declares ${known.length === 0 ? 'none' : known.join(', ')}`,
    });
  }
  if (unknown.length > unknownShownMax) {
    const more = unknown.length - unknownShownMax;
    faults.push({ path: 'parameters', expected: 'declared parameters', got: `${more} more`, message: `${more} more unknown parameters` });
  }
  const values: [string, JsonValue][] = [];
  for (const declaration of declarations) {
    const { name, type } = declaration;
    const value: unknown = Object.hasOwn(given, name) ? (given as Record<string, unknown>)[name] : undefined;
    if (value === undefined || (value === null && !declaration.required)) {
      if (declaration.required) fault(name, type, 'nothing');
      else if (declaration.default !== undefined) values.push([name, declaration.default as JsonValue]);
      continue;
    }
    const wrong = jsonFault(value) ?? valueFault(declaration, value as JsonValue, match);
    if (wrong) fault(name, wrong.expected, wrong.got);
    if (wrong?.endless) break;
    if (!wrong) values.push([name, value as JsonValue]);
  }
  if (faults.length > 0) return { faults };
  const text = JSON.stringify(Object.fromEntries(values));
  const bytes = Buffer.byteLength(text);
  if (bytes > parametersBytesMax) {
    const expected = `at most ${parametersBytesMax} bytes in all`;
    return { faults: [{ path: 'parameters', expected, got: `${bytes} bytes`, message: `parameters: expected ${expected}, got ${bytes}` }] };
  }
  return { values: JSON.parse(text) as JsonObject };
}

interface Wrong {
  readonly expected: string;
  readonly got: string;
  /** a pattern was cut off by its time limit */
  readonly endless?: boolean;
}

function valueFault(declaration: ParameterDeclaration, value: JsonValue, match: Match): Wrong | null {
  const { type, min, max, pattern } = declaration;
  const got = describeValue(value);
  if (!isOfType(value, type)) return { expected: type, got };
  if (declaration.enum && !declaration.enum.includes(value as string | number)) return { expected: `one of ${declaration.enum.join(', ')}`, got };
  const size = typeof value === 'number' ? value : typeof value === 'string' ? [...value].length : Array.isArray(value) ? value.length : null;
  const unit = typeof value === 'string' ? ' characters' : Array.isArray(value) ? ' items' : '';
  const gotSize = typeof value === 'string' ? `${size} characters` : got;
  if (size !== null && min !== undefined && size < min) return { expected: `at least ${min}${unit}`, got: gotSize };
  if (size !== null && max !== undefined && size > max) return { expected: `at most ${max}${unit}`, got: gotSize };
  if (typeof value === 'string' && pattern !== undefined) {
    const matches = match(pattern, value);
    const expected = `text that matches ${pattern}`;
    if (matches === null) return { expected, got: `${got}, on which the pattern takes too long`, endless: true };
    if (!matches) return { expected, got };
  }
  return null;
}

function isOfType(value: unknown, type: ParameterDeclaration['type']): boolean {
  switch (type) {
    case 'integer':
      return Number.isSafeInteger(value);
    case 'array':
      return Array.isArray(value);
    case 'object':
      return typeof value === 'object' && value !== null && !Array.isArray(value);
    default:
      return typeof value === type;
  }
}

/** What a value has that JSON, PostgreSQL or the sandbox cannot take. Walks without recursion, since depth is what it guards against. */
function jsonFault(value: unknown): Wrong | null {
  const open: { value: unknown; depth: number }[] = [{ value, depth: 1 }];
  for (let item = open.pop(); item; item = open.pop()) {
    const { value: at, depth } = item;
    if (typeof at === 'number' && !Number.isFinite(at)) return { expected: 'a finite number', got: String(at) };
    if (typeof at === 'string') {
      const fault = textFault(at);
      if (fault) return fault;
    }
    if (typeof at !== 'object' || at === null) continue;
    if (depth > parameterDepthMax) return { expected: `at most ${parameterDepthMax} levels of nesting`, got: 'more' };
    if (Array.isArray(at) && at.length > arrayItemsMax) return { expected: `at most ${arrayItemsMax} items`, got: describeValue(at) };
    for (const [key, inner] of Object.entries(at)) {
      if (key === '__proto__') return { expected: 'other keys than __proto__', got: '"__proto__"' };
      const fault = textFault(key);
      if (fault) return fault;
      open.push({ value: inner, depth: depth + 1 });
    }
  }
  return null;
}

function textFault(text: string): Wrong | null {
  if (text.includes('\0')) return { expected: 'text without NUL characters', got: describeValue(text) };
  if (/\p{Surrogate}/u.test(text)) return { expected: 'well-formed Unicode', got: 'half of a surrogate pair' };
  return null;
}

function isPattern(pattern: string): boolean {
  try {
    new RegExp(pattern, 'u');
    return true;
  } catch {
    return false;
  }
}

/** Null when the time limit ended it. The new context is for the limit only: V8 can stop a regular expression there and nowhere else. */
function matchesPattern(pattern: string, value: string): boolean | null {
  try {
    return runInNewContext('new RegExp(pattern, "u").test(value)', { pattern, value }, { timeout: patternMsMax }) === true;
  } catch {
    return null;
  }
}
