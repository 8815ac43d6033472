import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { expect, onTestFinished, test } from 'vitest';
import { steps } from '../../../activities/steps/index.js';
import { type WatchedTemplates, watchTemplates } from '../../../mains/watch-templates.js';
import { eventually } from '../../support/servers.js';

const yaml = (name: string, prompt = 'hello') => `name: ${name}\nsteps:\n  - { type: ollama_generate, model: m, prompt: ${prompt} }\n`;

async function watched(
  lookEveryMs: number,
): Promise<{ folder: string; templates: WatchedTemplates; lines: string[]; write: (name: string, text: string) => Promise<void> }> {
  const folder = await mkdtemp(path.join(tmpdir(), 'templates-'));
  const lines: string[] = [];
  const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(line) });
  const write = (name: string, text: string) => writeFile(path.join(folder, name), text);
  await write('first.yaml', yaml('first'));
  const templates = await watchTemplates([{ path: folder, source: 'local' }], steps, log, { lookEveryMs });
  onTestFinished(async () => {
    await templates.stop();
    await rm(folder, { recursive: true, force: true });
  });
  return { folder, templates, lines, write };
}
const names = (templates: WatchedTemplates) =>
  templates
    .current()
    .list()
    .map(({ template }) => template.name);

test('new, changed, renamed and removed files are seen, and a catalogue that was taken stays as it was [TPL-01, TPL-23]', async () => {
  const { folder, templates, write } = await watched(60_000);
  const before = templates.current();
  await write('second.yaml', yaml('second'));
  await eventually(() => names(templates).join() === 'first,second');
  const hash = templates.current().get('first')?.template.hash;
  await write('first.yaml', yaml('first', 'changed'));
  await eventually(() => templates.current().get('first')?.template.hash !== hash);
  await rename(path.join(folder, 'second.yaml'), path.join(folder, 'third.yaml'));
  await eventually(() => templates.current().get('second')?.file.endsWith('third.yaml') === true);
  await rm(path.join(folder, 'third.yaml'));
  await eventually(() => names(templates).join() === 'first');
  expect(before.list().map(({ template }) => template.name)).toEqual(['first']);
  expect(before.get('first')?.template.hash).toBe(hash);
});

test('a file that breaks is told once and goes on as it was until it is mended or removed, and the others are untouched [TPL-01]', async () => {
  const { folder, templates, lines, write } = await watched(60_000);
  await write('other.yaml', yaml('other'));
  await eventually(() => names(templates).length === 2);
  const hash = templates.current().get('first')?.template.hash;
  await write('first.yaml', 'name: first\nsteps: [');
  await eventually(() => templates.current().get('first')?.stale !== null);
  expect(templates.current().get('first')?.template.hash).toBe(hash);
  expect(templates.current().broken).toHaveLength(1);
  await write('other.yaml', yaml('other', 'again'));
  await eventually(() => lines.filter((line) => line.includes('read again')).length >= 3);
  expect(lines.filter((line) => line.includes('it is served as it was before'))).toHaveLength(1);
  await write('first.yaml', yaml('first', 'mended'));
  await eventually(() => templates.current().get('first')?.stale === null);
  await write('first.yaml', 'name: first\nsteps: [');
  await eventually(() => templates.current().get('first')?.stale !== null);
  await rm(path.join(folder, 'first.yaml'));
  await eventually(() => names(templates).join() === 'other');
});

test('where no notification comes, such as for a folder that is made later, files are seen all the same [TPL-01]', async () => {
  const parent = await mkdtemp(path.join(tmpdir(), 'templates-'));
  const folder = path.join(parent, 'later');
  const templates = await watchTemplates([{ path: folder, source: 'local' }], steps, pino({ level: 'silent' }), { lookEveryMs: 50 });
  onTestFinished(async () => {
    await templates.stop();
    await rm(parent, { recursive: true, force: true });
  });
  expect(names(templates)).toEqual([]);
  await mkdir(folder);
  await writeFile(path.join(folder, 'late.yaml'), yaml('late'));
  await eventually(() => names(templates).join() === 'late');
});
