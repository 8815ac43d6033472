import type { Dirent } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';

export interface DirectorySize {
  /** bytes that the files take on disk: holes of sparse files do not count */
  readonly bytes: number;
  readonly entries: number;
}

/**
 * Measures a directory without following links. What vanishes or cannot be read meanwhile is left out.
 * @param entriesMax stops counting there, so that a million files cost no more than that
 */
export async function directorySize(root: string, entriesMax: number): Promise<DirectorySize> {
  let bytes = 0;
  let entries = 0;
  const pending = [root];
  for (let directory = pending.pop(); directory !== undefined && entries <= entriesMax; directory = pending.pop()) {
    const list: Dirent[] = await readdir(directory, { withFileTypes: true }).catch(() => []);
    for (const entry of list) {
      entries += 1;
      if (entries > entriesMax) break;
      const path = join(directory, entry.name);
      if (entry.isDirectory()) pending.push(path);
      else bytes += ((await lstat(path).catch(() => undefined))?.blocks ?? 0) * 512;
    }
  }
  return { bytes, entries };
}
