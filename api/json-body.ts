import type { Context, MiddlewareHandler } from 'hono';
import { ProblemError } from '../contract/problems.js';
import type { AppEnv } from './env.js';

/** Objects and arrays within each other; our own forms need 5, and a plan renders well below this. */
export const depthMax = 32;

const jsonType = /^application\/json(?:\s*;\s*charset="?utf-8"?)?$/i;

/**
 * Reads the body of a route that takes JSON, before its schema sees it. Refuses another content type and any content encoding
 * (nothing is ever decompressed), more bytes than allowed whether declared or not, and JSON that this program does not keep as it is.
 */
export const readJsonBody: MiddlewareHandler<AppEnv> = async (c, next) => {
  const type = c.req.header('content-type');
  if (type === undefined || !jsonType.test(type.trim()))
    throw new ProblemError('unsupported_media_type', 'Send the body as application/json, encoded in UTF-8.');
  const text = decode(await bodyOf(c));
  refuseUnsafeJson(text);
  // Hono types the cache by what its promises give, and keeps promises in it.
  c.req.bodyCache.text = Promise.resolve(text) as unknown as string;
  await next();
};

/** The body as it came. @throws {ProblemError} unsupported_media_type when it is encoded, payload_too_large */
export async function bodyOf(c: Context<AppEnv>): Promise<Buffer> {
  const encoding = c.req.header('content-encoding');
  if (encoding !== undefined && encoding.toLowerCase() !== 'identity') throw new ProblemError('unsupported_media_type', 'Send the body uncompressed.');
  const bytesMax = c.var.config.bodyBytesMax;
  const declared = Number(c.req.header('content-length') ?? 0);
  if (declared > bytesMax) throw tooLarge(bytesMax);
  return bytesOf(c.req.raw.body, bytesMax);
}

function tooLarge(bytesMax: number): ProblemError {
  return new ProblemError('payload_too_large', `A body may have at most ${bytesMax} bytes.`);
}

async function bytesOf(stream: ReadableStream<Uint8Array> | null, bytesMax: number): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  const reader = stream?.getReader();
  while (reader !== undefined) {
    const { done, value } = await reader.read();
    if (done) break;
    bytes += value.byteLength;
    if (bytes > bytesMax) {
      reader.cancel().catch(() => {});
      throw tooLarge(bytesMax);
    }
    chunks.push(value);
  }
  return Buffer.concat(chunks);
}

function decode(bytes: Buffer): string {
  try {
    // `ignoreBOM` keeps a byte order mark in the text, where JSON refuses it.
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new ProblemError('invalid_json', 'The body is not UTF-8.', { cause });
  }
}

/**
 * Refuses what `JSON.parse` takes and this program would lose, change or choke on: nesting beyond {@link depthMax}, a key twice in one object,
 * the keys `__proto__`, `constructor` and `prototype`, numbers beyond the range of a double, and texts with NUL or half a surrogate pair,
 * which PostgreSQL does not store. Goes through the text once, without recursion.
 * @throws {ProblemError} invalid_json
 */
export function refuseUnsafeJson(text: string): void {
  try {
    JSON.parse(text);
  } catch (cause) {
    throw new ProblemError('invalid_json', text.trim() === '' ? 'The body is empty.' : `The body is not valid JSON${placeOf(cause)}.`, { cause });
  }
  // From here on the text is known to be valid, which is all that makes so small a scanner right.
  const open: (Set<string> | null)[] = [];
  const token = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\]]|-?\d[\d.eE+-]*/gy;
  for (let at = 0; at < text.length; at = token.lastIndex) {
    token.lastIndex = at;
    const match = token.exec(text);
    if (match === null) {
      token.lastIndex = at + 1;
      continue;
    }
    const part = match[0];
    const first = part.charAt(0);
    if (first === '{' || first === '[') {
      open.push(first === '{' ? new Set() : null);
      if (open.length > depthMax) throw new ProblemError('invalid_json', `The body is nested too deep: depth > ${depthMax}.`);
    } else if (first === '}' || first === ']') open.pop();
    else if (first === '"') checkText(part, /\s*:/y, text, token.lastIndex, open.at(-1) ?? null);
    else if (!Number.isFinite(Number(part))) throw new ProblemError('invalid_json', 'The body has a number that is too large.');
  }
}

/** Where the parser stopped, when it says so; the rest of its message repeats the body. */
function placeOf(fault: unknown): string {
  const position = fault instanceof Error ? /at position (\d+)/.exec(fault.message)?.[1] : undefined;
  if (position !== undefined) return `: it goes wrong at position ${position}`;
  return fault instanceof Error && fault.message.startsWith('Unexpected end') ? ': it ends too early' : '';
}

const loneSurrogate = /\p{Surrogate}/u;
const refusedKeys = new Set(['__proto__', 'constructor', 'prototype']);

function checkText(part: string, colon: RegExp, text: string, end: number, keys: Set<string> | null): void {
  const value = JSON.parse(part) as string;
  if (value.includes('\0') || loneSurrogate.test(value))
    throw new ProblemError('invalid_json', 'The body has a text with a NUL or with half a surrogate pair.');
  colon.lastIndex = end;
  if (keys === null || !colon.test(text)) return;
  if (refusedKeys.has(value)) throw new ProblemError('invalid_json', `The body has a key that is not accepted: ${value}.`);
  if (keys.has(value)) throw new ProblemError('invalid_json', 'The body has an object with the same key twice.');
  keys.add(value);
}
