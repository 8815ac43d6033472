#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { createProgram } from './program.js';

// The command line knows no room but contract/ and client/: a main is loaded by its path when it is asked for.
const here = fileURLToPath(import.meta.url);
const extension = here.endsWith('.ts') ? 'ts' : 'js';

async function main(name: string, run: string, ...args: readonly unknown[]): Promise<void> {
  const module = (await import(new URL(`../mains/${name}.${extension}`, import.meta.url).href)) as Record<
    string,
    (...given: readonly unknown[]) => Promise<void>
  >;
  await module[run]?.(...args);
}

function version(): string {
  for (const path of ['../package.json', '../../package.json']) {
    try {
      return (JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')) as { version: string }).version;
    } catch {
      // one folder further up, when this runs from dist/
    }
  }
  return 'unknown';
}

// A reader that has seen enough, such as `head`, is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

await createProgram({ cli: here, version, main }).parseAsync();
