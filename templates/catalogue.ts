import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Logger } from 'pino';
import { templateFault, type TemplateFault } from './fault.js';
import { nearest } from './nearest.js';
import { parseTemplate, type StepRegistry, type Template } from './parse-template.js';

export const templateSources = ['built-in', 'local'] as const;
export type TemplateSource = (typeof templateSources)[number];

export interface TemplateDirectory {
  readonly path: string;
  readonly source: TemplateSource;
}

export interface CatalogueEntry {
  readonly template: Template;
  readonly source: TemplateSource;
}

/** A file that gave no template. */
export interface BrokenFile {
  readonly file: string;
  readonly faults: readonly TemplateFault[];
}

/** The templates of one moment; never changes, so that whoever reloads makes another one and puts it in its place. */
export interface Catalogue {
  get(name: string): CatalogueEntry | undefined;
  /** by name */
  list(): readonly CatalogueEntry[];
  readonly broken: readonly BrokenFile[];
  /** The name that a mistyped one most likely meant. */
  suggest(name: string): string | undefined;
}

/**
 * Reads every `*.yaml` (not `*.test.yaml`, not in sub-directories) of the directories. A broken file is reported, in `broken` and in the
 * log, and leaves the others usable. Of two templates with one name the first stays, in the order of directories and file names.
 * @param directories those that do not exist hold nothing
 */
export async function loadCatalogue(directories: readonly TemplateDirectory[], registry: StepRegistry, log: Logger): Promise<Catalogue> {
  const entries = new Map<string, CatalogueEntry>();
  const broken: BrokenFile[] = [];
  for (const { path, source } of directories) {
    for (const name of await templateFiles(path)) {
      const file = join(path, name);
      const parsed = await parseFile(file, registry);
      const first = 'template' in parsed ? entries.get(parsed.template.name) : undefined;
      if ('faults' in parsed) broken.push({ file, faults: parsed.faults });
      else if (first)
        broken.push({
          file,
          faults: [templateFault(parsed.template.yaml.at(['name']), `name "${parsed.template.name}" is taken by ${first.template.file}`, { path: ['name'] })],
        });
      else entries.set(parsed.template.name, { template: parsed.template, source });
    }
  }
  for (const { file, faults } of broken) log.error({ file, faults: faults.map(({ message }) => message) }, 'template is broken and not available');
  const sorted = [...entries.values()].sort((a, b) => (a.template.name < b.template.name ? -1 : 1));
  return {
    get: (name) => entries.get(name),
    list: () => sorted,
    broken,
    suggest: (name) => nearest(name, entries.keys()),
  };
}

async function templateFiles(directory: string): Promise<string[]> {
  try {
    const names = await readdir(directory);
    return names.filter((name) => /\.ya?ml$/.test(name) && !/\.test\.ya?ml$/.test(name)).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

async function parseFile(file: string, registry: StepRegistry): Promise<{ template: Template } | { faults: readonly TemplateFault[] }> {
  const name = basename(file);
  try {
    return parseTemplate(name, await readFile(file, 'utf8'), registry);
  } catch (error) {
    // A directory called x.yaml, or a file that may not be read.
    return { faults: [templateFault({ file: name, line: 1, column: 1 }, `cannot be read: ${error instanceof Error ? error.message : String(error)}`)] };
  }
}
