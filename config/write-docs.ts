import { readFile, writeFile } from 'node:fs/promises';
import { withTable } from './describe.js';

/** Brings the table of docs/configuration.md up to date with the schema. */
const page = new URL('../docs/configuration.md', import.meta.url);
await writeFile(page, withTable(await readFile(page, 'utf8')));
