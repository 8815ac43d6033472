import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Logger } from 'pino';
import { templateFault, type TemplateFault } from './fault.js';
import { nearest } from './nearest.js';
import { parseTemplate, type StepRegistry, type Template } from './parse-template.js';

export type TemplateSource = 'built-in' | 'community' | 'local';

export interface TemplateDirectory {
  readonly path: string;
  readonly source: TemplateSource;
}

export interface CatalogueEntry {
  readonly template: Template;
  readonly source: TemplateSource;
  /** path of its file */
  readonly file: string;
  /** faults of the file as it is now, while the template is served as it was before them; null when it is current */
  readonly stale: readonly TemplateFault[] | null;
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
 * @param before the catalogue that this one replaces: a file that gave a template and is broken now goes on giving it, so that a slip of the editor
 *   takes no template out of service
 */
export async function loadCatalogue(
  directories: readonly TemplateDirectory[],
  registry: StepRegistry,
  log: Logger,
  before: Catalogue | null = null,
): Promise<Catalogue> {
  const entries = new Map<string, CatalogueEntry>();
  const broken: BrokenFile[] = [];
  const earlier = new Map(before?.list().map((entry) => [entry.file, entry]));
  const told = new Set(before?.broken.map(signOf));
  for (const { path, source } of directories) {
    for (const name of await templateFiles(path)) {
      const file = join(path, name);
      const parsed = await parseFile(file, registry);
      const kept = 'faults' in parsed ? earlier.get(file) : undefined;
      const template = 'template' in parsed ? parsed.template : kept?.template;
      const first = template === undefined ? undefined : entries.get(template.name);
      if ('faults' in parsed) broken.push({ file, faults: parsed.faults });
      if (template === undefined) continue;
      if (first) broken.push({ file, faults: [takenName(template, first)] });
      else entries.set(template.name, { template, source, file, stale: 'faults' in parsed ? parsed.faults : null });
    }
  }
  for (const { file, faults } of broken) {
    if (told.has(signOf({ file, faults }))) continue;
    const served = [...entries.values()].some((entry) => entry.file === file);
    const messages = faults.map(({ message }) => message);
    log.error({ file, faults: messages }, served ? 'template is broken; it is served as it was before' : 'template is broken and not available');
  }
  const sorted = [...entries.values()].sort((a, b) => (a.template.name < b.template.name ? -1 : 1));
  return {
    get: (name) => entries.get(name),
    list: () => sorted,
    broken,
    suggest: (name) => nearest(name, entries.keys()),
  };
}

function takenName({ name, yaml }: Template, first: CatalogueEntry): TemplateFault {
  return templateFault(yaml.at(['name']), `name "${name}" is taken by ${first.template.file}`, { path: ['name'] });
}

function signOf({ file, faults }: BrokenFile): string {
  return `${file}\0${faults.map(({ message }) => message).join('\0')}`;
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
