import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';

const root = path.join(import.meta.dirname, '..', '..', '..');
/** What is written as it is; a view may do so with what another view has drawn, and the frame with the page. */
const rawTag = /<%[-_]?~([\s\S]*?)[-_]?%>/g;
const drawer = /const (\w+) = \([^)]*\) => include\('\.\/[\w-]+', \{ \.\.\.it[^}]*\}\);/g;

/** Raw tags of a view that may hold something else. */
function rawOf(view: string): string[] {
  const drawers = [...view.matchAll(drawer)].map(([, name]) => name);
  const drawn = (text: string) => text === 'it.body' || text.startsWith('include(') || drawers.some((name) => text.startsWith(`${name}(`));
  return [...view.matchAll(rawTag)].flatMap(([tag, text = '']) => (drawn(text.trim()) ? [] : [tag]));
}

async function pages(folder: string): Promise<string[]> {
  if (!existsSync(folder)) return [];
  const files = await readdir(folder, { recursive: true });
  return files.filter((file) => /\.(eta|ts|js)$/.test(file)).map((file) => path.join(folder, file));
}

test('no page writes text without escaping it', async () => {
  const files = [...(await pages(path.join(root, 'dashboard'))), ...(await pages(path.join(root, 'templates')))];
  expect(files.length).toBeGreaterThan(0);
  const raw = await Promise.all(files.map(async (file) => rawOf(await readFile(file, 'utf8')).map((tag) => `${file}: ${tag}`)));
  expect(raw.flat()).toEqual([]);
});

test('the search finds a raw tag that holds no view', () => {
  const time = "<% const time = (at) => include('./time', { ...it, at }); %>";
  expect(rawOf(`${time}<%~ it.body %><%~ time(it.at) %><%~ include('./time', it) %><%= it.name %>`)).toEqual([]);
  expect(rawOf('<%~ time(it.at) %>')).toHaveLength(1);
  expect(rawOf(`${time}<%~ it.name %><%-~ it.x % 2 -%>`)).toHaveLength(2);
});
