import { type FSWatcher, watch } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { type Loop, startLoop } from '../loop.js';
import { type Catalogue, loadCatalogue, type TemplateDirectory } from '../templates/catalogue.js';
import type { StepRegistry } from '../templates/parse-template.js';

export interface WatchedTemplates {
  /** the templates of this moment */
  current(): Catalogue;
  stop(): Promise<void>;
}

/** How long files rest before they are read: an editor writes in several steps. */
const restMs = 100;
/** Notifications of file systems get lost, on network drives above all. */
const defaultLookEveryMs = 2_000;

/**
 * Keeps the templates of some folders current: a changed, new or removed file is seen within a moment. Tasks keep the version they were submitted with.
 * @param options.lookEveryMs how often the folders are looked at when no notification comes; default 2 s
 */
export async function watchTemplates(
  directories: readonly TemplateDirectory[],
  registry: StepRegistry,
  log: Logger,
  options: { readonly lookEveryMs?: number } = {},
): Promise<WatchedTemplates> {
  let seen = await fingerprint(directories);
  let catalogue = await loadCatalogue(directories, registry, log);
  let rest: NodeJS.Timeout | undefined;

  const loop: Loop = startLoop({ name: 'templates', everyMs: options.lookEveryMs ?? defaultLookEveryMs, run: look, log });

  async function look(): Promise<undefined> {
    const now = await fingerprint(directories);
    if (now === seen) return undefined;
    const next = await loadCatalogue(directories, registry, log, catalogue);
    log.info({ templates: next.list().length, broken: next.broken.length }, 'templates were read again');
    catalogue = next;
    seen = now;
    return undefined;
  }

  const watchers = directories.flatMap(({ path }) => {
    const watcher = watchFolder(path, () => {
      clearTimeout(rest);
      rest = setTimeout(() => loop.wake(), restMs);
    });
    return watcher === null ? [] : [watcher];
  });

  return {
    current: () => catalogue,
    async stop() {
      clearTimeout(rest);
      for (const watcher of watchers) watcher.close();
      await loop.stop();
    },
  };
}

/** Null where a folder cannot be watched, such as one that is not there yet; it is looked at all the same. */
function watchFolder(path: string, onChange: () => void): FSWatcher | null {
  try {
    return watch(path, { persistent: false }, onChange).on('error', () => {});
  } catch {
    return null;
  }
}

/** What a change of any template's file changes. */
async function fingerprint(directories: readonly TemplateDirectory[]): Promise<string> {
  const parts: string[] = [];
  for (const { path } of directories) {
    for (const name of (await readdir(path).catch(() => [])).filter((file) => /\.ya?ml$/.test(file)).sort()) {
      const facts = await stat(join(path, name)).catch(() => null);
      if (facts !== null) parts.push(`${path}/${name} ${facts.ino} ${facts.size} ${facts.mtimeMs}`);
    }
  }
  return parts.join('\n');
}
