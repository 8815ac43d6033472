import { createHash } from 'node:crypto';
import { access, mkdir, readFile, readdir, rename, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, extname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundleWorkflowCode } from '@temporalio/worker';
import type { Logger } from 'pino';

export interface BundleOptions {
  /** bundles are kept in `<directory>/bundles` */
  readonly directory: string;
  readonly log: Logger;
  /** the module that exports the workflows; absolute. Default: workflows/index of this installation */
  readonly workflowsPath?: string;
  /** folders whose files the bundle depends on; absolute. Default: workflows/, contract/ and scheduling/ */
  readonly sources?: readonly string[];
}

/** TypeScript when this runs from source (tsx, vitest), else JavaScript. */
const extension = extname(fileURLToPath(import.meta.url));
const root = dirname(dirname(fileURLToPath(import.meta.url)));

/**
 * The workflow code as one file for `createWorkflowWorker`. Building takes 2 to 7 s, so it is built once
 * per content of its sources and version of the SDK, and found again by any later start.
 * @returns path of the bundle; absolute
 */
export async function workflowBundle(options: BundleOptions): Promise<string> {
  const workflowsPath = options.workflowsPath ?? join(root, 'workflows', `index${extension}`);
  const sources = options.sources ?? ['workflows', 'contract', 'scheduling'].map((folder) => join(root, folder));
  const directory = join(options.directory, 'bundles');
  const file = join(directory, `${await contentHash(workflowsPath, sources)}.js`);
  try {
    await access(file);
    return file;
  } catch {
    // built below
  }
  const startedMs = performance.now();
  const { code } = await bundleWorkflowCode({ workflowsPath, logger: bundlerLogger(options.log) });
  await mkdir(directory, { recursive: true });
  const temporary = `${file}.${process.pid}`;
  await writeFile(temporary, code);
  await rename(temporary, file);
  options.log.info({ file, durationMs: Math.round(performance.now() - startedMs) }, 'workflow bundle built');
  return file;
}

async function contentHash(workflowsPath: string, sources: readonly string[]): Promise<string> {
  const sdk = createRequire(import.meta.url)('@temporalio/workflow/package.json') as { version: string };
  const hash = createHash('sha256').update(`${sdk.version}\0${workflowsPath}\0`);
  for (const source of sources) {
    const entries = await readdir(source, { recursive: true, withFileTypes: true });
    const files = entries
      .filter((entry) => entry.isFile() && extname(entry.name) === extension && !entry.name.endsWith('.d.ts'))
      .map((entry) => join(entry.parentPath, entry.name));
    for (const file of files.sort())
      hash
        .update(`${relative(source, file)}\0`)
        .update(await readFile(file))
        .update('\0');
  }
  return hash.digest('hex').slice(0, 32);
}

/** The bundler tells of sizes and modules at info, which is of no use to a person who starts the program. */
function bundlerLogger(log: Logger) {
  return {
    log: (level: string, message: string) => log.debug({ level }, message),
    trace: (message: string) => log.trace(message),
    debug: (message: string) => log.debug(message),
    info: (message: string) => log.debug(message),
    warn: (message: string) => log.warn(message),
    error: (message: string) => log.error(message),
  };
}
