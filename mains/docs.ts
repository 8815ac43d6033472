import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import { steps } from '../activities/steps/index.js';
import { ConfigFault, loadConfig, packageRoot } from '../config.js';
import { loadCatalogue, type TemplateDirectory } from '../templates/catalogue.js';
import { stepTypesDocs, templateDocs } from '../templates/docs.js';
import { templateDirectories } from './parts.js';

/** The first line of a page. A page without it was written by somebody, and is neither overwritten nor deleted. */
const marker = '<!-- Written by `orchestra docs`, which overwrites it, and deletes it when there is no such template any more. -->';

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
  const pages = new Map(entries.map(({ template, source }) => [join('templates', `${template.name}.md`), marked(templateDocs(template, source))]));
  if (names.length === 0) pages.set('step-types.md', marked(stepTypesDocs(steps)));
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
    const { written, kept } = await writePages(folder, pages);
    process.stdout.write(`Wrote ${written} pages to ${folder}.\n`);
    for (const { page, wanted } of kept) {
      process.stderr.write(
        `orchestra docs: ${join(folder, page)} was not written by this command and is left as it is${wanted ? '; move it away to get the page' : ''}.\n`,
      );
      if (wanted) process.exitCode = 1;
    }
  } catch (error) {
    process.stderr.write(`orchestra docs: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = error instanceof ConfigFault ? 2 : 1;
  }
}

/** Pages that are missing, that differ, and, where all are looked at, that no template has any more. */
export async function stalePages(folder: string, pages: ReadonlyMap<string, string>, all: boolean): Promise<string[]> {
  const stale: string[] = [];
  for (const [page, text] of pages) if ((await readPage(folder, page)) !== text) stale.push(page);
  return [...stale, ...(all ? (await otherPages(folder, pages)).filter(({ own }) => own).map(({ page }) => page) : [])];
}

/** Writes the pages, and deletes those of templates that are gone when all are written. @returns how many were written, and what is somebody else's */
async function writePages(
  folder: string,
  pages: ReadonlyMap<string, string>,
): Promise<{ readonly written: number; readonly kept: readonly { readonly page: string; readonly wanted: boolean }[] }> {
  await mkdir(join(folder, 'templates'), { recursive: true });
  const kept: { page: string; wanted: boolean }[] = [];
  for (const [page, text] of pages) {
    const old = await readPage(folder, page);
    if (old === null || isOwn(old)) await writeFile(join(folder, page), text);
    else kept.push({ page, wanted: true });
  }
  const written = pages.size - kept.length;
  // A page of a template that is gone would go on telling of it.
  if (pages.has('step-types.md')) {
    for (const { page, own } of await otherPages(folder, pages)) {
      if (own) await rm(join(folder, page));
      else kept.push({ page, wanted: false });
    }
  }
  return { written, kept };
}

/** What else lies among the pages of templates, and whether this command wrote it. */
async function otherPages(folder: string, pages: ReadonlyMap<string, string>): Promise<{ readonly page: string; readonly own: boolean }[]> {
  const files = await readdir(join(folder, 'templates'), { withFileTypes: true }).catch(() => []);
  const others = files.filter((file) => file.isFile() && file.name.endsWith('.md')).map(({ name }) => join('templates', name));
  return Promise.all(others.filter((page) => !pages.has(page)).map(async (page) => ({ page, own: isOwn((await readPage(folder, page)) ?? '') })));
}

/** The text of a page; null when it is not there. */
async function readPage(folder: string, page: string): Promise<string | null> {
  return readFile(join(folder, page), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
}

const marked = (text: string) => `${marker}\n\n${text}`;

const isOwn = (text: string) => text.startsWith(marker);
