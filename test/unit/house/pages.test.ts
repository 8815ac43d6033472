import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';

const root = path.join(import.meta.dirname, '..', '..', '..');
const rawTag = /<%[-_]?~/;

async function pages(folder: string): Promise<string[]> {
  if (!existsSync(folder)) return [];
  const files = await readdir(folder, { recursive: true });
  return files.filter((file) => /\.(eta|ts|js)$/.test(file)).map((file) => path.join(folder, file));
}

test('no page writes text without escaping it', async () => {
  const files = [...(await pages(path.join(root, 'dashboard'))), ...(await pages(path.join(root, 'templates')))];
  expect(files.length).toBeGreaterThan(0);
  const raw = await Promise.all(files.map(async (file) => (rawTag.test(await readFile(file, 'utf8')) ? file : undefined)));
  expect(raw.filter((file) => file !== undefined)).toEqual([]);
});

test('the search finds a raw tag', () => {
  expect(rawTag.test('<%~ it.body %>')).toBe(true);
  expect(rawTag.test('<%= it.body %>')).toBe(false);
});
