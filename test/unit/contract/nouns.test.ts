import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseTaskId, taskOfWorkflowId, taskWorkflowId } from '../../../contract/ids.js';
import { exactOfLevel, levelOfExact, temporalPriorityKey } from '../../../contract/priority.js';
import { modelQueue, needOfKey, residencyKey } from '../../../contract/queues.js';
import { mayMove, type StatusCause, type TaskStatus, taskStatuses } from '../../../contract/status.js';

describe('priority [C1]', () => {
  test.each([
    [0, 1],
    [1, 1],
    [10, 1],
    [11, 2],
    [95, 10],
    [100, 10],
  ])('the exact value %i is level %i', (exact, level) => expect(levelOfExact(exact)).toBe(level));

  test('a level keeps its value through the exact one', () => {
    for (let level = 1; level <= 10; level += 1) expect(levelOfExact(exactOfLevel(level))).toBe(level);
  });

  test("Temporal's key turns the order around and stays within the server's levels", () => {
    const exact = fc.integer({ min: 0, max: 100 });
    fc.assert(
      fc.property(exact, exact, fc.constantFrom(5, 60), (more, less, levels) => {
        fc.pre(more > less);
        expect(temporalPriorityKey(more, levels)).toBeLessThanOrEqual(temporalPriorityKey(less, levels));
        expect(temporalPriorityKey(100, levels)).toBe(1);
        expect(temporalPriorityKey(0, levels)).toBe(levels);
      }),
    );
  });
});

test('a status moves as TASK-06 allows, and no other way', () => {
  const legal = new Set(
    (['work', 'retry', 'reset_outside', 'gives_way'] satisfies StatusCause[]).flatMap((cause) =>
      taskStatuses.flatMap((from: TaskStatus) => taskStatuses.filter((to) => mayMove(from, to, cause)).map((to) => `${cause}: ${from} to ${to}`)),
    ),
  );
  expect(legal).toEqual(
    new Set([
      'work: queued to running',
      'work: queued to cancelled',
      'work: queued to failed',
      'work: queued to completed',
      'work: running to completed',
      'work: running to failed',
      'work: running to cancelled',
      'retry: failed to queued',
      'retry: cancelled to queued',
      'gives_way: running to queued',
      'reset_outside: completed to running',
      'reset_outside: failed to running',
      'reset_outside: cancelled to running',
    ]),
  );
});

test('a task is found by its workflow id, and only a task', () => {
  const id = '8f14e45f-ceea-467f-a0e6-7c1f9d2b3a44';
  expect(taskOfWorkflowId(taskWorkflowId(id))).toBe(id);
  expect(parseTaskId(`task-${id.toUpperCase()}`)).toBe(id);
  expect(taskOfWorkflowId('residency-local')).toBeUndefined();
  expect(taskOfWorkflowId(id)).toBeUndefined();
});

test('a residency key says which model it is for, whatever the name', () => {
  const need = { name: 'hf.co/org/repo:q4~ctx1', numCtx: 4096 };
  expect(needOfKey(residencyKey(need))).toEqual(need);
  expect(needOfKey('no key')).toBeUndefined();
  expect(modelQueue('local', residencyKey({ name: 'llama3.1:8b', numCtx: 4096 }))).toBe('model:local:llama3.1:8b~ctx4096');
});
