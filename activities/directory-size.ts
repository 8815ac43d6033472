import type { Dirent } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';

export interface DirectorySize {
  /** bytes that the files take on disk: holes of sparse files do not count */
  readonly bytes: number;
  readonly entries: number;
  /** some paths are longer than the system takes, so that nothing is known of what is there */
  readonly tooDeep: boolean;
}

/**
 * Measures a directory without following links. What vanishes or cannot be read meanwhile is left out.
 * @param entriesMax stops counting there, so that a million files cost no more than that
 */
export async function directorySize(root: string, entriesMax: number): Promise<DirectorySize> {
  let bytes = 0;
  let entries = 0;
  let tooDeep = false;
  const missed = (error: NodeJS.ErrnoException): undefined => {
    if (error.code === 'ENAMETOOLONG') tooDeep = true;
  };
  // Names are bytes: as text, one that is no UTF-8 would name nothing, and what is below it would not count.
  const pending = [Buffer.from(root)];
  for (let directory = pending.pop(); directory !== undefined && entries <= entriesMax; directory = pending.pop()) {
    const list: Dirent<Buffer>[] = (await readdir(directory, { withFileTypes: true, encoding: 'buffer' }).catch(missed)) ?? [];
    for (const entry of list) {
      entries += 1;
      if (entries > entriesMax) break;
      const path = pathBelow(directory, entry.name);
      if (entry.isDirectory()) pending.push(path);
      else bytes += ((await lstat(path).catch(missed))?.blocks ?? 0) * 512;
    }
  }
  return { bytes, entries, tooDeep };
}

/** A path below a directory, for a name that need not be text. */
export function pathBelow(directory: Buffer, name: Buffer): Buffer<ArrayBuffer> {
  return Buffer.concat([directory, Buffer.from('/'), name]);
}
