import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { type TemporalFacts, chooseTemporal, compareVersions, temporalCliVersion } from '../../../temporal/server/choose-temporal.js';
import { TemporalUnavailable, claimTemporalFile, moduleDirectory } from '../../../temporal/server/provide-temporal.js';
import { temporalCommand, temporalFile } from '../../../temporal/server/temporal-command.js';

const onPath = { path: '/usr/bin/temporal', serverVersion: '1.31.2' };
const old = { path: '/usr/bin/temporal', serverVersion: '1.29.1' };
const nothing: TemporalFacts = { address: null, onPath: null, cached: null };

test('an address that is given is used before anything is looked at', () => {
  expect(chooseTemporal({ address: 'temporal.example:7233', onPath })).toMatchObject({ kind: 'foreign', address: 'temporal.example:7233' });
});

test('ways are looked at one after the other: PATH, cache, download, Go', () => {
  expect(chooseTemporal({ address: null })).toEqual({ kind: 'look', at: 'path' });
  expect(chooseTemporal({ address: null, onPath })).toMatchObject({ kind: 'binary', path: '/usr/bin/temporal' });
  expect(chooseTemporal({ address: null, onPath: null })).toEqual({ kind: 'look', at: 'cache' });
  expect(chooseTemporal({ address: null, onPath: null, cached: { path: '/cache/temporal', serverVersion: '1.31.0' } })).toMatchObject({
    kind: 'binary',
    path: '/cache/temporal',
  });
  expect(chooseTemporal(nothing)).toMatchObject({ kind: 'download' });
  expect(chooseTemporal({ ...nothing, downloadFault: 'no answer in 5 s' })).toEqual({ kind: 'look', at: 'go' });
  expect(chooseTemporal({ ...nothing, downloadFault: 'no answer in 5 s', go: '1.26.4' })).toMatchObject({ kind: 'build' });
});

test('a server on the PATH that is too old is passed over, and the reason says so', () => {
  const choice = chooseTemporal({ ...nothing, onPath: old });
  expect(choice).toMatchObject({ kind: 'download' });
  expect(choice).toHaveProperty('why', expect.stringContaining('server 1.29.1, older than 1.31.0'));
});

test.each([
  ['no Go', { go: null }, 'Go is not installed'],
  ['an old Go', { go: '1.19.8' }, 'Go 1.19.8 is older'],
  ['a failed build', { go: '1.26.4', buildFault: 'no space left on device' }, 'no space left on device'],
])('when nothing leads to a server (%s) every reason and the remedy are said', (_case, facts, reason) => {
  const choice = chooseTemporal({ ...nothing, onPath: old, downloadFault: 'HTTP 403', ...facts });
  expect(choice).toMatchObject({ kind: 'none', why: expect.stringContaining(reason), remedy: expect.stringContaining('TEMPORAL_ADDRESS') });
  expect(choice).toHaveProperty('why', expect.stringContaining('HTTP 403'));
});

test('versions are compared by number, whatever follows them', () => {
  expect(compareVersions('1.31.2', '1.31.0')).toBeGreaterThan(0);
  expect(compareVersions('1.9.0', '1.31.0')).toBeLessThan(0);
  expect(compareVersions('v1.31.0-beta.1', '1.31.0')).toBe(0);
});

test('the module that is built is the version that is downloaded', async () => {
  expect(await readFile(join(moduleDirectory(), 'go.mod'), 'utf8')).toMatch(new RegExp(`github.com/temporalio/cli v${temporalCliVersion}\\b`));
});

test('a server is started on loopback, with its file in the installation and its writes flushed', () => {
  const { args } = temporalCommand({ binary: '/bin/temporal', directory: '/home/o/temporal', port: 7233, uiPort: 8233, namespaces: ['orchestra'] });
  const line = args.join(' ');
  for (const part of [
    '--ip 127.0.0.1',
    '--ui-ip 127.0.0.1',
    '--db-filename /home/o/temporal/temporal.db',
    'journal_mode=wal',
    'synchronous=full',
    'frontend.enableCancelWorkerPollsOnShutdown=true',
    'matching.priorityLevels=60',
  ]) {
    expect(line).toContain(part);
  }
});

test('a file that another server version wrote is refused and a copy kept [fault-17]', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'temporal-file-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  await claimTemporalFile(directory, '1.30.4');
  await writeFile(temporalFile(directory), 'runs');
  await claimTemporalFile(directory, '1.30.5');
  await expect(claimTemporalFile(directory, '1.31.2')).rejects.toThrow(TemporalUnavailable);
  expect(await readFile(`${temporalFile(directory)}.1.30.5.bak`, 'utf8')).toBe('runs');
  expect(await readFile(temporalFile(directory), 'utf8')).toBe('runs');
  await claimTemporalFile(directory, '1.30.6');
});
