import { parseTaskId } from '../contract/ids.js';
import { type Fault, ProblemError } from '../contract/problems.js';
import type { TaskView } from '../contract/schemas/task.js';
import { addDependency, type DependencyOutcome, type DependencyType, removeDependency } from '../db/dependencies.js';
import { readTask } from '../db/tasks.js';
import { findCycle } from '../scheduling/dag.js';
import { type Caller, ownerOf } from './caller.js';
import type { ServiceDeps } from './deps.js';
import { taskIdOf, taskNotFound } from './task-id.js';
import { taskView } from './task-view.js';

/** Ids of a circle that are told; the longest chain has thousands. */
const idsShownMax = 50;

export interface DependencyUseCases {
  /**
   * Lets a task that has not started wait for another one of the caller's; twice changes nothing.
   * @throws {ProblemError} task_not_found, task_started, dependency_cycle with the circle, invalid_dependency
   */
  addDependency(caller: Caller, idText: string, dependencyText: string, type: DependencyType): Promise<TaskView>;
  /** Takes a dependency away; one that is not there changes nothing. @throws {ProblemError} task_not_found, task_started */
  removeDependency(caller: Caller, idText: string, dependencyText: string): Promise<TaskView>;
}

export function dependencyUseCases({ sql }: ServiceDeps): DependencyUseCases {
  const answer = async (id: string): Promise<TaskView> => {
    const row = await readTask(sql, id, null);
    if (row === null) throw taskNotFound();
    return taskView(row);
  };
  return {
    async addDependency(caller, idText, dependencyText, type) {
      const id = taskIdOf(idText);
      const parent = parseTaskId(dependencyText);
      if (parent === undefined) throw invalid('the id of a task', 'another text', 'This is not the id of a task.');
      const done = await addDependency(sql, id, ownerOf(caller), parent, type);
      refuse(done);
      if (done.outcome === 'itself') throw invalid('another task', parent, 'A task cannot wait for itself.');
      if (done.outcome === 'unknown_dependency') throw invalid('the id of one of your tasks', parent, 'There is no task with this id.');
      if (done.outcome === 'cycle') throw cycle(findCycle([...done.edges, { parent, child: id }]) ?? [id, parent, id]);
      return answer(id);
    },
    async removeDependency(caller, idText, dependencyText) {
      const id = taskIdOf(idText);
      const parent = parseTaskId(dependencyText);
      // What is no id is no dependency of this task, so that nothing changes, if the task is there.
      if (parent === undefined) {
        const row = await readTask(sql, id, ownerOf(caller));
        if (row === null) throw taskNotFound();
        return taskView(row);
      }
      refuse(await removeDependency(sql, id, ownerOf(caller), parent));
      return answer(id);
    },
  };
}

function refuse({ outcome }: DependencyOutcome): void {
  if (outcome === 'not_found') throw taskNotFound();
  if (outcome === 'started') throw new ProblemError('task_started', 'The task has started; its dependencies no longer change.');
}

function invalid(expected: string, got: string, message: string): ProblemError {
  return new ProblemError('invalid_dependency', message, { errors: [{ path: 'task_id', expected, got: got.slice(0, 100), message }] });
}

/** @param circle ids in the order in which they would wait, the first one repeated at the end */
export function cycle(circle: readonly string[]): ProblemError {
  const shown = circle.length <= idsShownMax ? circle : [...circle.slice(0, idsShownMax), `(${circle.length - idsShownMax} more)`];
  const path = shown.join(' -> ');
  const fault: Fault = {
    path: 'depends_on',
    expected: 'tasks that do not wait for each other',
    got: path,
    message: `The tasks would wait for each other: ${path}`,
  };
  return new ProblemError('dependency_cycle', fault.message, { errors: [fault] });
}
