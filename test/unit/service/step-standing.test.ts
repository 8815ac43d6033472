import { expect, test } from 'vitest';
import type { TryRow } from '../../../db/steps.js';
import { standingsOf } from '../../../service/step-standing.js';
import { chain, planStep } from '../../support/plans.js';

const plan = chain(planStep('one'), planStep('two'), planStep('three'));

function row(step: string, line: TryRow['line'], fields: Partial<TryRow> = {}): TryRow {
  return {
    attempt: 1,
    step,
    stepAttempt: 1,
    tryNo: 1,
    line,
    ended: line === 'done' ? 'completed' : null,
    host: null,
    enteredAt: null,
    grantedAt: null,
    startedAt: null,
    endedAt: null,
    firstOutputAt: null,
    cause: null,
    executionId: null,
    load: null,
    ...fields,
  };
}
const standing = (fields: Partial<Parameters<typeof standingsOf>[0]>) => [
  ...standingsOf({ status: 'running', attempt: 1, error: null, plan, tries: [], ...fields }).values(),
];

test.each([
  ['queued, nothing in the line', { status: 'queued' as const }, ['pending', 'pending', 'pending']],
  ['one waits', { tries: [row('one', 'waiting')] }, ['waiting', 'pending', 'pending']],
  ['one has a slot', { tries: [row('one', 'granted')] }, ['waiting', 'pending', 'pending']],
  ['two runs', { tries: [row('one', 'done'), row('two', 'running')] }, ['completed', 'running', 'pending']],
  ['two waits to try again', { tries: [row('one', 'done'), row('two', 'void', { ended: 'failed' })] }, ['completed', 'waiting', 'pending']],
  ['the last try counts', { tries: [row('one', 'void', { ended: 'failed' }), row('one', 'running', { tryNo: 2 })] }, ['running', 'pending', 'pending']],
  [
    'two failed and the task goes on',
    { tries: [row('one', 'done'), row('two', 'void', { ended: 'failed' }), row('three', 'running')] },
    ['completed', 'skipped', 'running'],
  ],
  ['the condition of two was false', { tries: [row('one', 'done'), row('three', 'waiting')] }, ['completed', 'skipped', 'waiting']],
  [
    'completed with a step that was skipped',
    { status: 'completed' as const, tries: [row('one', 'done'), row('three', 'done')] },
    ['completed', 'skipped', 'completed'],
  ],
  [
    'the last step failed and the task completed without it',
    { status: 'completed' as const, tries: [row('one', 'done'), row('two', 'done'), row('three', 'void', { ended: 'failed' })] },
    ['completed', 'completed', 'skipped'],
  ],
  [
    'failed in two',
    {
      status: 'failed' as const,
      error: { code: 'step_failed', message: 'no', step: 'two', attempt: 1 },
      tries: [row('one', 'done'), row('two', 'void', { ended: 'failed' })],
    },
    ['completed', 'failed', 'not_reached'],
  ],
  [
    'cancelled while two ran',
    { status: 'cancelled' as const, tries: [row('one', 'done'), row('two', 'void', { ended: 'cancelled' })] },
    ['completed', 'cancelled', 'not_reached'],
  ],
  ['tries of an earlier attempt do not count', { attempt: 2, status: 'queued' as const, tries: [row('one', 'done')] }, ['pending', 'pending', 'pending']],
  ['the row of the line is gone', { status: 'completed' as const, tries: [row('one', null, { ended: 'completed' })] }, ['completed', 'skipped', 'skipped']],
])('%s [DASH-18]', (_name, fields, expected) => {
  expect(standing(fields)).toEqual(expected);
});
