import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { runStateExport, runStateImport } from '../../../mains/state.js';
import { printedBy } from './run-main-function.js';

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'state-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

test('a named document that is not there is a mistake, and none at all is an empty state [DUR-04]', async () => {
  const folder = newFolder();
  const missing = join(folder, 'nosuch.json');
  expect(await printedBy(() => runStateImport(missing))).toEqual({ code: 3, out: '', err: `orchestra state import: There is no ${missing}.\n` });
  expect(await printedBy(() => runStateImport(folder))).toMatchObject({ code: 2, out: '', err: expect.stringContaining('is a folder') });
  expect(await printedBy(() => runStateImport())).toMatchObject({ code: 0, out: expect.stringContaining('the state is empty'), err: '' });
});

test('an export that cannot be written is refused in a sentence before anything is read [DUR-04]', async () => {
  const folder = newFolder();
  const file = join(folder, 'no', 'x');
  expect(await printedBy(() => runStateExport(file))).toEqual({
    code: 2,
    out: '',
    err: `orchestra state export: ${file} cannot be written: there is no folder ${join(folder, 'no')}.\n`,
  });
  expect(await printedBy(() => runStateExport(folder))).toMatchObject({ code: 2, out: '', err: expect.stringContaining('is a folder') });
});
