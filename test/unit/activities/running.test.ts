import { expect, test } from 'vitest';
import { createRunningSteps } from '../../../activities/running.js';

test('an abort reaches every running step of its task with the reason, and no other task', () => {
  const running = createRunningSteps();
  const [first, second, other, ended] = [1, 2, 3, 4].map(() => new AbortController()) as [AbortController, AbortController, AbortController, AbortController];
  running.add({ taskId: 'a', controller: first });
  running.add({ taskId: 'a', controller: second });
  running.add({ taskId: 'b', controller: other });
  running.add({ taskId: 'a', controller: ended })();
  expect(running.size).toBe(3);
  running.abort('a', 'cancelled');
  expect([first, second].map(({ signal }) => signal.reason as unknown)).toEqual(['cancelled', 'cancelled']);
  expect([other.signal.aborted, ended.signal.aborted]).toEqual([false, false]);
  running.abortAll('lease_lost');
  expect(other.signal.reason).toBe('lease_lost');
  expect(running.taskIds()).toEqual(new Set(['a', 'b']));
});
