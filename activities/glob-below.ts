import type { Dirent } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { openDirectoryBelow, PathRefused } from './open-below.js';

/** Entries looked at for one pattern, so that a pattern over a huge tree ends. */
const entriesMax = 100_000;
const depthMax = 64;

/** Whether a text is a pattern rather than a path. */
export function isGlob(path: string): boolean {
  return /[*?]/.test(path);
}

/**
 * Finds the regular files below `root` that match a pattern: `*` and `?` within a name, `**` for any number of directories.
 * Hidden names match only a part that begins with a dot. Links are neither followed nor found.
 * @param parts of the pattern, from `namesOf`
 * @param filesMax stops after one more than this
 * @returns paths relative to `root`, sorted
 * @throws {PathRefused} when the tree is too large to search
 */
export async function globBelow(root: string, parts: readonly string[], filesMax: number): Promise<string[]> {
  const found = new Set<string>();
  let looked = 0;
  const visit = async (at: readonly string[], rest: readonly string[]): Promise<void> => {
    const [part, ...after] = rest;
    if (part === undefined || found.size > filesMax || at.length > depthMax) return;
    if (part === '**') await visit(at, after);
    for (const entry of await list(root, at)) {
      looked += 1;
      if (looked > entriesMax) throw new PathRefused(`the pattern ${parts.join('/')} looks at more than ${entriesMax} files`);
      if (part === '**') {
        if (entry.isDirectory() && !entry.name.startsWith('.')) await visit([...at, entry.name], rest);
      } else if (matchesName(part, entry.name)) {
        if (after.length > 0 && entry.isDirectory()) await visit([...at, entry.name], after);
        else if (after.length === 0 && entry.isFile()) found.add([...at, entry.name].join('/'));
      }
    }
  };
  // A last `**` means the files below, too.
  await visit([], parts.at(-1) === '**' ? [...parts, '*'] : parts);
  return [...found].sort();
}

async function list(root: string, names: readonly string[]): Promise<Dirent[]> {
  try {
    const { handle, path } = await openDirectoryBelow(root, names);
    return await readdir(path, { withFileTypes: true }).finally(() => handle.close());
  } catch (error) {
    // Gone, swapped or closed to us since it was listed.
    if (error instanceof PathRefused || ['ENOENT', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '')) return [];
    throw error;
  }
}

/** Matches one name in time linear in its length for each `*`; a regular expression would backtrack on `*a*a*a*b`. */
export function matchesName(pattern: string, name: string): boolean {
  if (name.startsWith('.') && !pattern.startsWith('.')) return false;
  let p = 0;
  let star = -1;
  let resume = 0;
  for (let n = 0; n < name.length; ) {
    if (pattern[p] === '*') {
      star = p;
      resume = n;
      p += 1;
    } else if (p < pattern.length && (pattern[p] === '?' || pattern[p] === name[n])) {
      p += 1;
      n += 1;
    } else if (star >= 0) {
      p = star + 1;
      resume += 1;
      n = resume;
    } else return false;
  }
  while (pattern[p] === '*') p += 1;
  return p === pattern.length;
}
