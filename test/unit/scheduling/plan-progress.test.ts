import { expect, test } from 'vitest';
import type { PlanStep } from '../../../contract/plan.js';
import { mayRetry, progressTable, retryDelayMs } from '../../../scheduling/plan-progress.js';

const step: PlanStep = {
  id: 'read',
  type: 'read_files',
  title: 'read',
  needs: [],
  pool: 'general',
  input: {},
  deferred: [],
  startToCloseMs: 1_000,
  retry: { maximumAttempts: 3, initialIntervalMs: 1_000, backoffCoefficient: 2, maximumIntervalMs: 3_000, nonRetryable: ['file_not_found'] },
  onFailure: 'retry',
};

test('the pause before an attempt doubles and stops at the maximum [TASK-15]', () => {
  expect([1, 2, 3, 4].map((attempt) => retryDelayMs(step, attempt))).toEqual([1_000, 2_000, 3_000, 3_000]);
});

test('a step is attempted as often as its policy says, and not after a failure that no repeat mends', () => {
  const failure = { code: 'git_clone_failed', retryable: true };
  expect(mayRetry(step, 2, failure)).toBe(true);
  expect(mayRetry(step, 3, failure)).toBe(false);
  expect(mayRetry(step, 1, { ...failure, retryable: false })).toBe(false);
  expect(mayRetry(step, 1, { code: 'file_not_found', retryable: true })).toBe(false);
});

test('fail_workflow never attempts a step again [DUR-09]', () => {
  expect(mayRetry({ ...step, onFailure: 'fail_workflow' }, 1, { code: 'step_failed', retryable: true })).toBe(false);
});

test('the Web UI shows every step of the plan with its state', () => {
  const plan = { version: 1 as const, template: 't', templateHash: 'h', parameters: {}, steps: [step] };
  expect(progressTable(plan, new Map([['read', 'running']]))).toContain('| 1 | read | read_files |  | running |');
});
