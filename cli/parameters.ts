import { readFileSync } from 'node:fs';
import type { DeclaredParameter } from '../client/shapes.js';
import { usageFault } from './failure.js';

/** Reads a file, or standard input for `-`. */
export type ReadText = (path: string) => string;

export const readText: ReadText = (path) => {
  try {
    return readFileSync(path === '-' ? 0 : path, 'utf8');
  } catch (error) {
    throw usageFault(`${path} cannot be read: ${(error as NodeJS.ErrnoException).code ?? String(error)}.`);
  }
};

/** Reads JSON with its place in the message when it is none. */
export function parseJson(text: string, source: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw usageFault(`${source} is no JSON: ${(error as Error).message}.`);
  }
}

function objectOf(value: unknown, source: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw usageFault(`${source} has to hold one JSON object.`);
}

/** A file of parameters: one JSON object. */
export function readParameterFile(path: string, read: ReadText = readText): Record<string, unknown> {
  return objectOf(parseJson(read(path), path), path);
}

/**
 * Reads `name=value` pairs by the types that the template declares. `@path` stands for the text of a file and `@-` for standard input, `@@` for a leading `@`;
 * `name:=json` is taken as JSON whatever the type. An array is one JSON array, a file with one item per line, or the pair repeated.
 * @param declared null when the declarations are not known: every value is then a text
 * @throws {CliFailure} with exit code 2
 */
export function parseParameters(pairs: readonly string[], declared: readonly DeclaredParameter[] | null, read: ReadText = readText): Record<string, unknown> {
  const values = new Map<string, unknown>();
  for (const pair of pairs) {
    const [, name = '', operator, text = ''] = /^([^=:]+)(:?=)([\s\S]*)$/.exec(pair) ?? [];
    if (name === '') throw usageFault(`-p ${pair} is not understood: write -p name=value, or -p name:=json.`);
    const parameter = declared?.find((each) => each.name === name);
    if (declared !== null && parameter === undefined) {
      const names = declared.map((each) => each.name).join(', ');
      throw usageFault(`The template has no parameter ${name}; ${names === '' ? 'it takes none.' : `it takes ${names}.`}`);
    }
    const type = parameter?.type ?? 'string';
    const value = operator === ':=' ? parseJson(contentOf(text, read), `-p ${name}`) : valueOf(type, text, name, read);
    if (type === 'array' && operator === '=') values.set(name, [...((values.get(name) as unknown[] | undefined) ?? []), ...(value as unknown[])]);
    else if (values.has(name)) throw usageFault(`-p ${name} is given twice; only an array may be.`);
    else values.set(name, value);
  }
  return Object.fromEntries(values);
}

const contentOf = (text: string, read: ReadText): string => (text.startsWith('@@') ? text.slice(1) : text.startsWith('@') ? read(text.slice(1)) : text);

function valueOf(type: DeclaredParameter['type'], text: string, name: string, read: ReadText): unknown {
  const content = contentOf(text, read);
  const refuse = (expected: string) => usageFault(`-p ${name}: expected ${expected}, got ${JSON.stringify(content.slice(0, 60))}.`);
  switch (type) {
    case 'string':
      return content;
    case 'integer':
    case 'number': {
      const trimmed = content.trim();
      const value = Number(trimmed);
      if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(trimmed) || !Number.isFinite(value)) throw refuse('a number');
      if (type === 'integer' && !Number.isSafeInteger(value)) throw refuse('a whole number');
      return value;
    }
    case 'boolean': {
      const word = content.trim().toLowerCase();
      if (['true', 'yes', 'on'].includes(word)) return true;
      if (['false', 'no', 'off'].includes(word)) return false;
      throw refuse('true or false');
    }
    case 'object':
      return objectOf(parseJson(content, `-p ${name}`), `-p ${name}`);
    case 'array':
      return arrayOf(content, text, name);
  }
}

function arrayOf(content: string, text: string, name: string): unknown[] {
  if (content.trimStart().startsWith('[')) {
    const parsed = parseJson(content, `-p ${name}`);
    if (Array.isArray(parsed)) return parsed;
  }
  if (!text.startsWith('@') || text.startsWith('@@')) return [content];
  return content.split(/\r?\n/).filter((line) => line.trim() !== '');
}
