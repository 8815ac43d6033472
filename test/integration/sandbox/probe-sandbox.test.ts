import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { probeSandbox } from '../../../activities/sandbox/probe-sandbox.js';
import { quiet, request } from './sandboxes.js';

const path = process.env.PATH;
let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'probe-'));
});
afterEach(async () => {
  process.env.PATH = path;
  await rm(directory, { recursive: true });
});

test('where bubblewrap works, scripts run in it', async () => {
  expect(await probeSandbox({ setting: 'auto', minimum: 'bwrap', log: quiet })).toMatchObject({ level: 'bwrap', refusal: null });
});

test('a bubblewrap that is installed and does not work is not believed: scripts are refused with the remedy [ML-16]', async () => {
  await writeFile(join(directory, 'bwrap'), '#!/bin/sh\necho "bwrap: No permissions to create new namespace" >&2\nexit 1\n');
  await chmod(join(directory, 'bwrap'), 0o755);
  await chmod(directory, 0o755);
  const sandbox = await probeSandbox({ setting: 'auto', minimum: 'bwrap', log: quiet, searchPath: `${directory}:/usr/bin:/bin:/usr/sbin:/sbin` });
  expect(sandbox.refusal?.reason).toContain('No permissions');
  expect(sandbox.refusal?.remedy).toContain('apt-get install bubblewrap');
  await expect(sandbox.run(request(directory, ['true']))).rejects.toMatchObject({
    code: 'sandbox_unavailable',
    retryable: false,
    message: expect.stringContaining('SANDBOX_MIN'),
  });
});

test('a weaker fence is taken only when the settings allow it, and with a warning [SEC-14]', async () => {
  await writeFile(join(directory, 'bwrap'), '#!/bin/sh\nexit 1\n');
  await chmod(join(directory, 'bwrap'), 0o755);
  await chmod(directory, 0o755);
  const warnings: string[] = [];
  const log = pino({ level: 'warn' }, { write: (line: string) => warnings.push(line) });
  const sandbox = await probeSandbox({ setting: 'auto', minimum: 'none', log, searchPath: `${directory}:/usr/bin:/bin:/usr/sbin:/sbin` });
  expect(sandbox).toMatchObject({ refusal: null, level: process.getuid?.() === 0 ? 'uid' : 'none' });
  expect(warnings.join()).toContain('fenced weakly');
  const strict = await probeSandbox({ setting: 'require', minimum: 'none', log: quiet, searchPath: `${directory}:/usr/bin:/bin:/usr/sbin:/sbin` });
  expect(strict.refusal).not.toBeNull();
});
