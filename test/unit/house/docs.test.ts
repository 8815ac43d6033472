import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';

const root = path.join(import.meta.dirname, '..', '..', '..');
const read = (file: string) => readFile(path.join(root, file), 'utf8');

async function markdownFiles(): Promise<string[]> {
  const top = (await readdir(root)).filter((file) => file.endsWith('.md'));
  const docs = (await readdir(path.join(root, 'docs'), { recursive: true })).filter((file) => file.endsWith('.md'));
  return [...top, ...docs.map((file) => path.join('docs', file))];
}

test('every link of the documentation to a file of the repository leads somewhere', async () => {
  const broken: string[] = [];
  for (const file of await markdownFiles()) {
    for (const [, target = ''] of (await read(file)).matchAll(/\]\((?!https?:|#)([^)#]+)/g)) {
      if (!existsSync(path.join(root, path.dirname(file), target))) broken.push(`${file}: ${target}`);
    }
  }
  expect(broken).toEqual([]);
});

test('every environment variable that sets a part of the configuration is documented', async () => {
  const variables = [
    ...(await read('config/schema.ts')).matchAll(/variable: '([A-Z0-9_]+)'/g),
    ...(await read('config/later.ts')).matchAll(/variable: '([A-Z0-9_]+)'/g),
  ];
  expect(variables.map(([, name]) => name)).toContain('ORCHESTRA_HOME');
  const documented = await read('docs/configuration.md');
  expect(variables.filter(([, name = '']) => !documented.includes(`\`${name}\``))).toEqual([]);
});

test('every room of the house is described', async () => {
  const folders = (await readdir(root, { withFileTypes: true })).filter(
    (entry) => entry.isDirectory() && !/^(\.|node_modules|dist|coverage|docs|test|bench)/.test(entry.name),
  );
  const described = await read('docs/architecture.md');
  expect(folders.map(({ name }) => name).filter((name) => !described.includes(`\`${name}/\``))).toEqual([]);
});
