import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { temporal } from '@temporalio/proto';
import { bundleWorkflowCode, DefaultLogger, Worker } from '@temporalio/worker';
import { DeterminismViolationError } from '@temporalio/workflow';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { packageRoot } from '../../../config.js';
import { workflowBundle } from '../../../temporal/bundle.js';
import { installRuntime } from '../../../temporal/runtime.js';

const histories = path.join(import.meta.dirname, '../../histories');
const recorded = (await readdir(histories, { recursive: true })).filter((file) => file.endsWith('.json')).sort();

const log = pino({ level: 'silent' });
installRuntime(log);

type History = temporal.api.history.v1.History;
const read = async (file: string): Promise<History> =>
  temporal.api.history.v1.History.fromObject(JSON.parse(await readFile(path.join(histories, file), 'utf8')));

/** What each history is recorded for, in order; other events may stand between. By file name, the same in every release. */
const promises: Readonly<Record<string, readonly string[]>> = {
  'change-residency/load': ['run loadAndServe', 'completed', 'run ended'],
  'change-residency/unload-and-load': ['run drainAndUnload', 'completed', 'run loadAndServe', 'completed', 'run ended'],
  'change-residency/pull-then-load': ['run loadAndServe', 'completed', 'run pullModel', 'completed', 'run loadAndServe', 'completed', 'run ended'],
  'change-residency/fetch-first': ['run loadAndServe', 'completed', 'fetchFirst', 'run ended'],
  'change-residency/fetch': ['run pullModel', 'completed', 'fetched', 'run ended'],
  'change-residency/failed-abandoned': ['run loadAndServe', 'failed', 'abandonOrder', 'run ended'],
  'change-residency/two-orders': ['run loadAndServe', 'signal order', 'completed', 'run drainAndUnload', 'completed', 'run ended'],
  'run-task/chain-of-three': [...Array.from({ length: 3 }, () => ['enter: granted', 'run test_step', 'completed']).flat(), 'close', 'run ended'],
  'run-task/parallel-with-failure': ['enter: waiting', 'enter: granted', 'run test_step', 'failed', 'leave', 'leave', 'close', 'run failed'],
  'run-task/retries': [
    ...Array.from({ length: 2 }, () => ['enter: granted', 'run test_step', 'failed', 'leave', 'timer']).flat(),
    'enter: granted',
    'run test_step',
    'completed',
    'close',
    'run ended',
  ],
  'run-task/waiting-then-granted': ['enter: waiting', 'run test_step', 'completed', 'close', 'run ended'],
  'run-task/refused': ['enter: waiting', 'signal refused', 'close', 'run failed'],
  'run-task/cancelled-while-waiting': ['enter: waiting', 'cancel', 'leave', 'close', 'run cancelled'],
  'run-task/cancelled-while-running': ['enter: granted', 'run test_step', 'cancel', 'cancel of the activity', 'cancelled', 'leave', 'close', 'run cancelled'],
  'run-task/skipped-by-when': ['enter: skipped', 'enter: granted', 'run test_step', 'completed', 'close', 'run ended'],
  'run-task/lost-grant': ['enter: granted', 'run test_step', 'failed', 'leave', 'enter: granted', 'run test_step', 'completed', 'close', 'run ended'],
  'run-task/first-granted': ['run test_step', 'completed', 'enter: granted', 'run test_step', 'completed', 'close', 'run ended'],
  'run-task/first-grant-lost': ['run test_step', 'failed', 'leave', 'enter: granted', 'run test_step', 'completed', 'close', 'run ended'],
  'run-task/lost-while-running': [
    'enter: granted',
    'run test_step',
    'signal lost',
    'cancel of the activity',
    'leave',
    'enter: granted',
    'run test_step',
    'completed',
    'close',
    'run ended',
  ],
  'run-task/granted-anew': ['enter: granted', 'run test_step', 'signal grant', 'cancel of the activity', 'run test_step', 'completed', 'close', 'run ended'],
  'run-task/stale': ['enter: stale', 'run ended'],
  'run-task/priority-change': ['enter: waiting', 'signal priority', 'signal grant', 'run test_step', 'completed', 'close', 'run ended'],
};
const caseOf = (file: string) => file.replace(/^([^/]+)\/[^/]+\/(.*)\.json$/, '$1/$2');

/** The events of a history in the words of {@link promises}. */
function storyOf({ events }: History): string[] {
  return events.flatMap((event) => {
    const local = event.markerRecordedEventAttributes;
    if (local?.markerName === 'core_local_activity') return [moveOf(local.details ?? {})];
    if (event.activityTaskScheduledEventAttributes) return [`run ${event.activityTaskScheduledEventAttributes.activityType?.name}`];
    if (event.workflowExecutionSignaledEventAttributes) return [`signal ${event.workflowExecutionSignaledEventAttributes.signalName}`];
    if (event.activityTaskCompletedEventAttributes) return ['completed'];
    if (event.activityTaskFailedEventAttributes) return ['failed'];
    if (event.activityTaskCancelRequestedEventAttributes) return ['cancel of the activity'];
    if (event.activityTaskCanceledEventAttributes) return ['cancelled'];
    if (event.timerFiredEventAttributes) return ['timer'];
    if (event.workflowExecutionCancelRequestedEventAttributes) return ['cancel'];
    if (event.workflowExecutionCompletedEventAttributes) return ['run ended'];
    if (event.workflowExecutionFailedEventAttributes) return ['run failed'];
    if (event.workflowExecutionCanceledEventAttributes) return ['run cancelled'];
    return [];
  });
}

/** A local activity by name, with what entering the line gave. */
function moveOf(details: Record<string, temporal.api.common.v1.IPayloads>): string {
  const [marker, result] = [details['data'], details['result']].map((payloads) => {
    const data = payloads?.payloads?.[0]?.data;
    return data?.length ? (JSON.parse(Buffer.from(data).toString()) as { activity_type?: string; state?: string } | boolean) : undefined;
  });
  const type = typeof marker === 'object' ? marker.activity_type : undefined;
  return typeof result === 'object' && result.state !== undefined ? `${type}: ${result.state}` : `${type}`;
}

/** What remains of the promise when its events are looked for in order; empty when all are there. */
function missingFrom(story: readonly string[], promise: readonly string[]): readonly string[] {
  const left = [...promise];
  for (const event of story) if (event === left[0]) left.shift();
  return left;
}

test('every history that is promised is recorded', () => {
  expect(new Set(recorded.map(caseOf))).toEqual(new Set(Object.keys(promises)));
});

test.each(recorded)('%s contains what its name promises', async (file) => {
  const story = storyOf(await read(file));
  expect(missingFrom(story, promises[caseOf(file)] ?? ['a promise']), story.join(', ')).toEqual([]);
});

describe('a replay', () => {
  let cacheDir: string;
  let today: string;
  beforeAll(async () => {
    cacheDir = await mkdtemp(path.join(tmpdir(), 'bundle-'));
    today = await workflowBundle({ directory: cacheDir, log });
  }, 120_000);
  afterAll(() => rm(cacheDir, { recursive: true }));

  test.each(recorded)('of %s: the workflows of today continue the run [DUR-06, QA-07]', async (file) => {
    await Worker.runReplayHistory({ workflowBundle: { codePath: today } }, await read(file));
  });

  describe('by workflows of which two activities have changed places', () => {
    let code: string;
    beforeAll(async () => {
      ({ code } = await bundleWorkflowCode({
        workflowsPath: path.join(packageRoot(), 'workflows/index.ts'),
        logger: new DefaultLogger('ERROR'),
        workflowInterceptorModules: [path.join(import.meta.dirname, '../../support/reordered-workflows/index.ts')],
      }));
    }, 120_000);
    const contains = (file: string, ...moves: string[]) => missingFrom(promises[caseOf(file)] ?? [], moves).length === 0;
    const touched = (file: string) =>
      contains(file, 'close') || contains(file, 'leave') || contains(file, 'run loadAndServe') || contains(file, 'run drainAndUnload');

    test.each(recorded.filter(touched))('is refused: %s [DUR-06, QA-07]', async (file) => {
      await expect(Worker.runReplayHistory({ workflowBundle: { code } }, await read(file))).rejects.toBeInstanceOf(DeterminismViolationError);
    });

    test.each(recorded.filter((file) => !touched(file)))('passes where neither was called, so that the refusals have no other cause: %s', async (file) => {
      await Worker.runReplayHistory({ workflowBundle: { code } }, await read(file));
    });
  });
});
