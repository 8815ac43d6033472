import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { compileFunction } from 'node:vm';
import type { Environment } from 'minijinja-js';
import type { JsonObject, JsonValue } from '../contract/json.js';

/** Steps of MiniJinja's virtual machine in one rendering. */
export const fuelMax = 100_000;
/** Characters that one string may render to. */
export const renderedCharsMax = 1024 * 1024;
/**
 * Memory of the sandbox, in pages of 64 KiB: 256 MiB. Fuel does not bound memory: `{{ 'a' * 2000000000 }}` is one instruction, and took
 * the process to 3 GB before it trapped.
 */
const memoryPagesMax = 4096;

/** Why a template's string gave no value: written wrong, a name without a value, too much of something. */
export class TemplateError extends Error {
  override readonly name = 'TemplateError';
  /** line inside the string, from 1, where MiniJinja told it */
  readonly line: number | null;

  constructor(message: string, line: number | null = null) {
    super(message);
    this.line = line;
  }
}

type Runtime = { Environment: new () => Environment };

let runtime: Runtime | undefined;

/**
 * MiniJinja (wasm): Jinja2's syntax without a way to host objects, files or other templates. Undefined names are errors, nothing is
 * escaped, the final newline stays. Filters beside Jinja2's own subset (abs, attr, batch, bool, capitalize, count, default, dictsort,
 * escape, filesizeformat, first, float, groupby, indent, int, items, join, last, length, lines, list, lower, map, max, min, pluralize,
 * pprint, reject, rejectattr, replace, reverse, round, safe, select, selectattr, slice, sort, split, string, striptags, sum, title,
 * tojson, trim, unique, upper): `truncate(length, killwords, end, leeway)` and `urlencode`, both as in Jinja2.
 * Prints `none`, `true` and `false` where Python prints `None`, `True` and `False`; `tojson` writes no blanks; maps are walked in the
 * order of their keys.
 * @throws {TemplateError}
 */
export function renderText(source: string, context: JsonObject): string {
  const text = inSandbox((environment) => environment.renderStr(source, context));
  return bounded(text);
}

/**
 * The value of one expression, with its type.
 * @returns undefined when the expression names something that is not there
 * @throws {TemplateError}
 */
export function evaluate(expression: string, context: JsonObject): JsonValue | undefined {
  // `tojson` keeps null apart from undefined and objects as objects; evalExpr alone gives `undefined` and `Map`.
  return inSandbox((environment) => {
    if (environment.evalExpr(`(${expression}) is undefined`, context) === true) return undefined;
    return JSON.parse(bounded(String(environment.evalExpr(`(${expression})|tojson`, context)))) as JsonValue;
  });
}

/** Whether a condition holds; an undefined value is an error, as in an `{% if %}`. */
export function isTrue(expression: string, context: JsonObject): boolean {
  return inSandbox((environment) => environment.evalExpr(`true if (${expression}) else false`, context)) === true;
}

/** What is wrong with a string's syntax, null when it is well formed. Does not look at names. */
export function syntaxProblem(source: string): TemplateError | null {
  try {
    inSandbox((environment) => environment.addTemplate('text', source));
    return null;
  } catch (error) {
    if (error instanceof TemplateError) return error;
    throw error;
  }
}

/** Whether a filter or a test of that name exists. */
export function isKnown(kind: 'filter' | 'test', name: string): boolean {
  return inSandbox((environment) => environment.evalExpr(`name is ${kind}`, { name })) === true;
}

function inSandbox<T>(use: (environment: Environment) => T): T {
  let environment: Environment | undefined;
  try {
    runtime ??= loadRuntime();
    environment = new runtime.Environment();
    environment.undefinedBehavior = 'strict';
    environment.keepTrailingNewline = true;
    environment.fuel = fuelMax;
    environment.enablePyCompat();
    environment.removeGlobal('debug');
    environment.addFilter('truncate', truncate);
    environment.addFilter('urlencode', urlencode);
    const result = use(environment);
    environment.free();
    return result;
  } catch (error) {
    if (error instanceof TemplateError) throw error;
    const message = error instanceof Error ? error.message : String(error);
    const own = /^(.*?) \(in <?\w+>?:(\d+)\)/s.exec(message);
    if (own) throw new TemplateError(own[1] ?? message, Number(own[2]));
    // A trap, or a result that JavaScript cannot hold: the instance may be corrupt, so the next rendering gets a new one.
    runtime = undefined;
    throw new TemplateError('it needs more memory or nesting than a template may use');
  }
}

function bounded(text: string): string {
  if (text.length > renderedCharsMax) throw new TemplateError(`the rendered text has ${text.length} characters; at most ${renderedCharsMax} are allowed`);
  return text;
}

/**
 * A private instance of the wasm module whose memory cannot grow past the cap. The package exports neither its memory nor a way to
 * start anew after a trap, so its glue code is evaluated here with the bytes that we hand it.
 */
function loadRuntime(): Runtime {
  const require = createRequire(import.meta.url);
  const gluePath = require.resolve('minijinja-js');
  const directory = dirname(gluePath);
  const wasm = capMemory(readFileSync(join(directory, 'minijinja_js_bg.wasm')), memoryPagesMax);
  const glue = compileFunction(readFileSync(gluePath, 'utf8'), ['module', 'exports', 'require', '__dirname'], { filename: gluePath });
  const module = { exports: {} };
  const requireForGlue = (name: string): unknown => (name === 'fs' ? { readFileSync: () => wasm } : require(name));
  glue(module, module.exports, requireForGlue, directory);
  return module.exports as Runtime;
}

/** The module with a maximum in its memory section (id 5), whose one entry is `flags, minimum [, maximum]` in LEB128. */
function capMemory(wasm: Buffer, pagesMax: number): Buffer {
  let at = 8;
  while (at < wasm.length) {
    const id = wasm[at];
    const size = readLeb(wasm, at + 1);
    if (id === 5) {
      const minimum = readLeb(wasm, size.next + 2);
      const body = Buffer.from([1, 1, ...leb(minimum.value), ...leb(pagesMax)]);
      return Buffer.concat([wasm.subarray(0, at), Buffer.from([5, ...leb(body.length)]), body, wasm.subarray(size.next + size.value)]);
    }
    at = size.next + size.value;
  }
  throw new Error('minijinja-js has no memory section: its build has changed, see templates/jinja.ts');
}

function readLeb(bytes: Buffer, from: number): { value: number; next: number } {
  let value = 0;
  let next = from;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[next++] ?? 0;
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) return { value, next };
  }
}

function leb(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...leb(value >>> 7)];
}

// A filter must not throw: an exception that crosses the wasm boundary corrupts the instance.

function truncate(value: unknown, ...given: unknown[]): unknown {
  if (typeof value !== 'string') return value;
  const named = given.at(-1) instanceof Map ? (given.pop() as Map<string, unknown>) : new Map<string, unknown>();
  const argument = (index: number, name: string): unknown => given[index] ?? named.get(name);
  const length = numberOr(argument(0, 'length'), 255);
  const end = argument(2, 'end') ?? '...';
  const suffix = typeof end === 'string' ? end : '...';
  const characters = [...value];
  if (characters.length <= length + numberOr(argument(3, 'leeway'), 5)) return value;
  const kept = characters.slice(0, Math.max(0, length - [...suffix].length)).join('');
  const blank = kept.lastIndexOf(' ');
  return (argument(1, 'killwords') === true || blank === -1 ? kept : kept.slice(0, blank)) + suffix;
}

function numberOr(value: unknown, otherwise: number): number {
  return typeof value === 'number' ? value : otherwise;
}

/** Percent-encodes text, leaving `/`; a map becomes a query. */
function urlencode(value: unknown): string {
  if (!(value instanceof Map)) return encode(value, '/');
  const query = [...value].map(([key, item]) => `${encode(key, '')}=${encode(item, '')}`).join('&');
  return query.replaceAll('%20', '+');
}

function encode(value: unknown, keep: string): string {
  const text = typeof value === 'string' ? value : String(value ?? '');
  return Array.from(Buffer.from(text), (byte) => {
    const character = String.fromCharCode(byte);
    return /[A-Za-z0-9_.~-]/.test(character) || character === keep ? character : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }).join('');
}
