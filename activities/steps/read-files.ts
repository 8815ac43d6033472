import type { FileHandle } from 'node:fs/promises';
import { relative, sep } from 'node:path';
import { z } from 'zod';
import { failureCodes, StepFailure } from '../../contract/failure.js';
import { globBelow, isGlob } from '../glob-below.js';
import { namesOf, openFileBelow, PathRefused } from '../open-below.js';
import { defineStep, type StepLimits } from './define-step.js';

const MINUTE_MS = 60_000;

export const readFiles = defineStep({
  type: 'read_files',
  summary: 'Read files from the allowed directories or from the workspace of the task.',
  input: z.strictObject({
    files: z
      .array(z.string().min(1).max(4096))
      .min(1)
      .max(10_000)
      .describe('Paths below an allowed directory, relative or absolute, or patterns with *, ? and **'),
  }),
  output: z.object({
    files: z.array(
      z.object({
        path: z.string(),
        content: z.string(),
        size_bytes: z.int(),
        /** `base64`: the file is not a text in UTF-8 */
        encoding: z.enum(['utf-8', 'base64']),
      }),
    ),
  }),
  policy: { pool: 'general', startToCloseMs: 5 * MINUTE_MS, attempts: 3 },
  example: '- { type: read_files, files: ["notes.txt", "reports/**/*.md"] }',
  async run({ files }, { fileRoots, workspace, limits, signal, progress }) {
    const roots = [...fileRoots, workspace];
    const wanted = await findAll(files, roots, limits);
    const read: { path: string; content: string; size_bytes: number; encoding: 'utf-8' | 'base64' }[] = [];
    let totalBytes = 0;
    for (const file of wanted) {
      signal.throwIfAborted();
      const bytes = await contentOf(file, limits);
      totalBytes += bytes.length;
      if (totalBytes > limits.filesBytes) throw limit('files_bytes', `the files have more than ${limits.filesBytes} bytes together`);
      read.push({ path: file.path, ...decode(bytes), size_bytes: bytes.length });
      progress({ phase: 'reading', done: read.length, total: wanted.length });
    }
    return { files: read };
  },
});

/** A file that a path or pattern names, still unopened. */
interface Wanted {
  /** as the result shows it: what the author wrote, or the match relative to its root */
  readonly path: string;
  /** where to look, in this order */
  readonly roots: readonly string[];
  readonly names: readonly string[];
}

async function findAll(files: readonly string[], roots: readonly string[], limits: StepLimits): Promise<Wanted[]> {
  const wanted = new Map<string, Wanted>();
  for (const file of files) {
    for (const one of await find(file, roots, limits)) wanted.set(one.path, one);
    if (wanted.size > limits.filesMax) throw limit('files_max', `more than ${limits.filesMax} files are named`);
  }
  return [...wanted.values()];
}

async function find(file: string, roots: readonly string[], limits: StepLimits): Promise<Wanted[]> {
  const place = placeOf(file, roots);
  if (!isGlob(file)) return [{ path: file, ...place }];
  for (const root of place.roots) {
    const matches = await globBelow(root, place.names, limits.filesMax).catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []; // a root nobody has made yet holds no files
      throw refused(error, file);
    });
    if (matches.length > 0) return matches.map((path) => ({ path, roots: [root], names: path.split('/') }));
  }
  throw new StepFailure('file_not_found', `no file matches ${JSON.stringify(file)}`, { retryable: false, details: { file } });
}

/** The roots and the names below them that a path means; an absolute one has to lie below a root as it is written. */
function placeOf(file: string, roots: readonly string[]): { roots: readonly string[]; names: string[] } {
  try {
    if (!file.startsWith('/')) return { roots, names: namesOf(file) };
    const root = roots.find((one) => file.startsWith(one.endsWith(sep) ? one : one + sep));
    if (root === undefined) throw new PathRefused(`${JSON.stringify(file.slice(0, 500))} is below none of the allowed directories`);
    if (file.split('/').includes('..')) throw new PathRefused(`the path ${JSON.stringify(file.slice(0, 500))} contains ".."`);
    return { roots: [root], names: namesOf(relative(root, file)) };
  } catch (error) {
    throw refused(error, file);
  }
}

async function contentOf(file: Wanted, limits: StepLimits): Promise<Buffer> {
  const handle = await openFirst(file);
  try {
    const parts: Buffer[] = [];
    let sizeBytes = 0;
    // Counted while reading: a file may grow meanwhile, and those of /proc have no size.
    for await (const part of handle.createReadStream({ autoClose: false })) {
      parts.push(part as Buffer);
      sizeBytes += (part as Buffer).length;
      if (sizeBytes > limits.fileBytes) throw limit('file_bytes', `the file ${JSON.stringify(file.path)} has more than ${limits.fileBytes} bytes`);
    }
    return Buffer.concat(parts);
  } finally {
    await handle.close();
  }
}

async function openFirst(file: Wanted): Promise<FileHandle> {
  for (const root of file.roots) {
    try {
      return await openFileBelow(root, file.names);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw refused(error, file.path);
    }
  }
  throw new StepFailure('file_not_found', `the file ${JSON.stringify(file.path)} does not exist`, { retryable: false, details: { file: file.path } });
}

function decode(bytes: Buffer): { content: string; encoding: 'utf-8' | 'base64' } {
  try {
    const content = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    // PostgreSQL's jsonb cannot hold NUL, and no text has it.
    if (!content.includes('\0')) return { content, encoding: 'utf-8' };
  } catch {
    // not UTF-8
  }
  return { content: bytes.toString('base64'), encoding: 'base64' };
}

function refused(error: unknown, file: string): unknown {
  if (error instanceof PathRefused)
    return new StepFailure('path_refused', `cannot read: ${error.message}`, { retryable: false, cause: error, details: { file: file.slice(0, 500) } });
  if ((error as NodeJS.ErrnoException).code === 'EACCES')
    return new StepFailure('path_refused', `no permission to read ${JSON.stringify(file)}`, { retryable: false, cause: error });
  return error;
}

function limit(name: string, message: string): StepFailure {
  return new StepFailure(failureCodes.limitExceeded, message, { retryable: false, details: { limit: name } });
}
