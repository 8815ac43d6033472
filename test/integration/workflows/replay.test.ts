import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { temporal } from '@temporalio/proto';
import { DeterminismViolationError } from '@temporalio/workflow';
import { Worker } from '@temporalio/worker';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { workflowBundle } from '../../../temporal/bundle.js';

const support = path.join(import.meta.dirname, '../../support/reordered-workflows');
const histories = path.join(import.meta.dirname, '../../histories');
const recorded = (await readdir(histories, { recursive: true })).filter((file) => file.endsWith('.json')).sort();

let cacheDir: string;
beforeAll(async () => {
  cacheDir = await mkdtemp(path.join(tmpdir(), 'bundle-'));
});
afterAll(() => rm(cacheDir, { recursive: true }));

const log = pino({ level: 'silent' });
const replay = async (file: string, codePath: string) =>
  Worker.runReplayHistory(
    { workflowBundle: { codePath } },
    temporal.api.history.v1.History.fromObject(JSON.parse(await readFile(path.join(histories, file), 'utf8'))),
  );

test('there are recorded histories of both workflows', () => {
  expect(new Set(recorded.map((file) => file.split(path.sep)[0]))).toEqual(new Set(['change-residency', 'run-task']));
});

test.each(recorded)('the workflows of today continue a run recorded as %s [DUR-06, QA-07]', async (file) => {
  await replay(file, await workflowBundle({ directory: cacheDir, log }));
});

test('a workflow that does its first moves in another order is refused', async () => {
  const codePath = await workflowBundle({ directory: cacheDir, log, workflowsPath: path.join(support, 'index.ts'), sources: [support] });
  const file = path.join('run-task', '0.1.0', 'chain-of-three.json');
  await expect(replay(file, codePath)).rejects.toBeInstanceOf(DeterminismViolationError);
});
