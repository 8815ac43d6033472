import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import { steps } from '../activities/steps/index.js';
import { ConfigFault, loadConfig, packageRoot } from '../config.js';
import { loadCatalogue, type TemplateDirectory } from '../templates/catalogue.js';
import { stepTypesDocs, templateDocs } from '../templates/docs.js';
import { templateDirectories } from './parts.js';

export interface DocsOptions {
  /** folder for the pages; default: docs/ of the current folder */
  readonly out?: string;
  /** write nothing; exit code 1 when a page is stale, missing or left over */
  readonly check?: boolean;
  /** names of templates; default: all */
  readonly templates?: readonly string[];
}

/** The pages of templates and step types by their path below the folder of docs. */
export async function docsPages(directories: readonly TemplateDirectory[], names: readonly string[] = []): Promise<ReadonlyMap<string, string>> {
  const catalogue = await loadCatalogue(directories, steps, pino({ level: 'silent' }));
  const unknown = names.filter((name) => catalogue.get(name) === undefined);
  if (unknown.length > 0) throw new Error(`There is no template ${unknown.map((name) => `"${name}"`).join(', ')}.`);
  const entries = catalogue.list().filter(({ template }) => names.length === 0 || names.includes(template.name));
  const pages = new Map(entries.map(({ template, source }) => [join('templates', `${template.name}.md`), templateDocs(template, source)]));
  if (names.length === 0) pages.set('step-types.md', stepTypesDocs(steps));
  return pages;
}

/** The folders whose pages are in this repository: those that ship with the product. */
export function shippedDirectories(): TemplateDirectory[] {
  return [
    { path: join(packageRoot(), 'templates'), source: 'built-in' },
    { path: join(packageRoot(), 'templates', 'community'), source: 'community' },
  ];
}

/** `orchestra docs`: writes a page for each template and one for all step types, or says which are stale. */
export async function runDocs(options: DocsOptions = {}): Promise<void> {
  const folder = options.out ?? 'docs';
  try {
    const pages = await docsPages(templateDirectories(loadConfig()), options.templates);
    if (options.check) {
      const stale = await stalePages(folder, pages, options.templates === undefined || options.templates.length === 0);
      for (const page of stale) process.stdout.write(`${join(folder, page)} is stale\n`);
      process.stdout.write(stale.length === 0 ? `${pages.size} pages are current.\n` : `Run \`orchestra docs --out ${folder}\` to renew them.\n`);
      if (stale.length > 0) process.exitCode = 1;
      return;
    }
    await writePages(folder, pages);
    process.stdout.write(`Wrote ${pages.size} pages to ${folder}.\n`);
  } catch (error) {
    process.stderr.write(`orchestra docs: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = error instanceof ConfigFault ? 2 : 1;
  }
}

/** Pages that are missing, that differ, and, where all are looked at, that no template has any more. */
export async function stalePages(folder: string, pages: ReadonlyMap<string, string>, all: boolean): Promise<string[]> {
  const stale: string[] = [];
  for (const [page, text] of pages) if ((await readFile(join(folder, page), 'utf8').catch(() => null)) !== text) stale.push(page);
  const present = all ? await readdir(join(folder, 'templates')).catch(() => []) : [];
  return [...stale, ...present.map((file) => join('templates', file)).filter((page) => page.endsWith('.md') && !pages.has(page))];
}

async function writePages(folder: string, pages: ReadonlyMap<string, string>): Promise<void> {
  await mkdir(join(folder, 'templates'), { recursive: true });
  const old = await readdir(join(folder, 'templates'));
  // A page of a template that is gone would go on telling of it.
  if (pages.has('step-types.md')) {
    for (const file of old) if (file.endsWith('.md') && !pages.has(join('templates', file))) await rm(join(folder, 'templates', file));
  }
  for (const [page, text] of pages) await writeFile(join(folder, page), text);
}
