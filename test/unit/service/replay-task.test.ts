import { expect, test } from 'vitest';
import type { ReplaySource } from '../../../db/tasks.js';
import { replayed } from '../../../service/replay-task.js';

const source: ReplaySource = {
  id: '8f14e45f-ceea-467f-a0e6-7c1f9d2b3a44',
  name: 't',
  description: null,
  template: 't',
  parameters: { text: 'one', toString: 'own' },
  request: {},
  metadata: {},
  exact: 50,
  priorityGiven: false,
  agentAssigned: null,
  userId: 'ann',
  originId: null,
};

test('null takes away what the old task has; for any other name it is left to the check of the parameters [TASK-18]', () => {
  expect(replayed(source, { parameters: { text: null } }).parameters).toEqual({ toString: 'own' });
  expect(replayed(source, { parameters: { txt: null, valueOf: null } }).parameters).toEqual({ ...source.parameters, txt: null, valueOf: null });
});

test('a replay has the priority that was given to the task or to the replay, and none where neither was [TASK-18][SCHED-18]', () => {
  expect(replayed(source, {})).not.toHaveProperty('priority');
  expect(replayed(source, { priority: 2 }).priority).toBe(2);
  expect(replayed({ ...source, exact: 73, priorityGiven: true }, {}).priority).toBe(8);
});
