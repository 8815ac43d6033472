import type { FileHandle } from 'node:fs/promises';
import { relative, sep } from 'node:path';
import { failureCodes, StepFailure } from '../contract/failure.js';
import { globBelow, isGlob } from './glob-below.js';
import { namesOf, openFileBelow, PathRefused } from './open-below.js';

/** A file that a path or pattern names, still unopened. */
export interface Wanted {
  /** as the result shows it: what the author wrote, or the match relative to its root */
  readonly path: string;
  /** where to look, in this order */
  readonly roots: readonly string[];
  readonly names: readonly string[];
}

/**
 * The files that untrusted paths and patterns name, each once, in the order of naming.
 * @param roots directories in which to look, in this order; absolute
 * @throws {StepFailure} `path_refused`, `file_not_found` for a pattern that nothing matches, `limit_exceeded`
 */
export async function findFiles(files: readonly string[], roots: readonly string[], filesMax: number): Promise<Wanted[]> {
  const wanted = new Map<string, Wanted>();
  for (const file of files) {
    for (const one of await find(file, roots, filesMax)) wanted.set(one.path, one);
    if (wanted.size > filesMax) throw exceeded('files_max', `more than ${filesMax} files are named`);
  }
  return [...wanted.values()];
}

async function find(file: string, roots: readonly string[], filesMax: number): Promise<Wanted[]> {
  const place = placeOf(file, roots);
  if (!isGlob(file)) return [{ path: file, ...place }];
  for (const root of place.roots) {
    const matches = await globBelow(root, place.names, filesMax).catch((error: unknown) => {
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

/**
 * Reads a file whole. Links are never followed.
 * @param limit how many bytes it may have, and what that limit is called
 * @throws {StepFailure} `path_refused`, `file_not_found`, `limit_exceeded`
 */
export async function readWanted(file: Wanted, limit: { readonly name: string; readonly bytesMax: number }): Promise<Buffer> {
  const handle = await openFirst(file);
  try {
    const parts: Buffer[] = [];
    let sizeBytes = 0;
    // Counted while reading: a file may grow meanwhile, and those of /proc have no size.
    for await (const part of handle.createReadStream({ autoClose: false })) {
      parts.push(part as Buffer);
      sizeBytes += (part as Buffer).length;
      if (sizeBytes > limit.bytesMax) throw exceeded(limit.name, `the file ${JSON.stringify(file.path)} has more than ${limit.bytesMax} bytes`);
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

function refused(error: unknown, file: string): unknown {
  if (error instanceof PathRefused)
    return new StepFailure('path_refused', `cannot read: ${error.message}`, { retryable: false, cause: error, details: { file: file.slice(0, 500) } });
  if ((error as NodeJS.ErrnoException).code === 'EACCES')
    return new StepFailure('path_refused', `no permission to read ${JSON.stringify(file)}`, { retryable: false, cause: error });
  return error;
}

/** The failure of a limit, which has a name in the configuration. */
export function exceeded(name: string, message: string): StepFailure {
  return new StepFailure(failureCodes.limitExceeded, message, { retryable: false, details: { limit: name } });
}
