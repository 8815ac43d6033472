import { constants } from 'node:fs';
import { type FileHandle, lstat, mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';

/** A path leads, or could lead, out of its root: the message says how. */
export class PathRefused extends Error {
  override readonly name = 'PathRefused';
}

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;
const pathCharsMax = 4096;
const nameBytesMax = 255;

/**
 * Splits an untrusted relative path into names.
 * @throws {PathRefused} for absolute paths, `..`, NUL, empty paths, names over 255 bytes, paths over 4096 characters
 */
export function namesOf(path: string): string[] {
  if (path.length > pathCharsMax) throw new PathRefused(`the path has ${path.length} characters, at most ${pathCharsMax} are allowed`);
  const shown = JSON.stringify(path);
  if (path.includes('\0')) throw new PathRefused(`the path ${shown} contains a NUL character`);
  if (path.startsWith('/')) throw new PathRefused(`the path ${shown} is absolute; it has to be relative`);
  const names = path.split('/').filter((name) => name !== '' && name !== '.');
  if (names.includes('..')) throw new PathRefused(`the path ${shown} contains ".."`);
  if (names.length === 0) throw new PathRefused(`the path ${shown} names no file`);
  if (names.some((name) => Buffer.byteLength(name) > nameBytesMax)) throw new PathRefused(`the path ${shown} has a name of more than ${nameBytesMax} bytes`);
  return names;
}

/**
 * Opens a directory below `root` one name at a time, each relative to the handle of the one before, so that nobody can swap a link in between.
 * @param create makes the directories that are missing
 * @returns the handle, to be closed by the caller, and a path that means this very directory while the handle is open
 * @throws {PathRefused} when a part is a symbolic link or no directory; ENOENT as Node reports it
 */
export async function openDirectoryBelow(root: string, names: readonly string[], create = false): Promise<{ handle: FileHandle; path: string }> {
  let path = root;
  let handle = await open(root, O_RDONLY | O_DIRECTORY);
  for (const name of names) {
    try {
      path = join(placeOf(handle, path), name);
      if (create) await mkdir(path, { mode: 0o755 }).catch(ignoreExisting);
      const next = await open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      await handle.close();
      handle = next;
    } catch (error) {
      await handle.close();
      throw refusalOf(error, name);
    }
  }
  return { handle, path: placeOf(handle, path) };
}

/**
 * Opens a regular file below `root` for reading. Links are never followed and nothing blocks, not even a FIFO.
 * @param names from {@link namesOf}
 * @throws {PathRefused} when it is not a regular file, or a part of the path is a symbolic link; ENOENT as Node reports it
 */
export async function openFileBelow(root: string, names: readonly string[]): Promise<FileHandle> {
  const name = names.at(-1) ?? '';
  const directory = await openDirectoryBelow(root, names.slice(0, -1));
  try {
    const path = join(directory.path, name);
    // Opening a socket or a device may fail or have effects of its own; what counts is still the check of the open file.
    const seen = await lstat(path);
    if (!seen.isFile()) throw new PathRefused(`${JSON.stringify(name)} is not a regular file`);
    const handle = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    if ((await handle.stat()).isFile()) return handle;
    await handle.close();
    throw new PathRefused(`${JSON.stringify(name)} is not a regular file`);
  } catch (error) {
    throw refusalOf(error, name);
  } finally {
    await directory.handle.close();
  }
}

function refusalOf(error: unknown, name: string): unknown {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === 'ELOOP' || code === 'ENOTDIR') return new PathRefused(`${JSON.stringify(name)} is a symbolic link or no directory`);
  return error;
}

function ignoreExisting(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EEXIST') throw error;
}

/** Linux lets a handle stand for its directory in a path; elsewhere the path itself has to do. */
function placeOf(handle: FileHandle, path: string): string {
  return process.platform === 'linux' ? `/proc/self/fd/${handle.fd}` : path;
}
