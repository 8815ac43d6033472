import { failureCodes } from '../contract/failure.js';
import type { TaskStatus } from '../contract/status.js';
import { insertRebuilt, knownTasks, type RebuiltTask } from '../db/rebuild.js';
import { type TaskRun, taskRuns } from '../temporal/task-runs.js';
import type { ServiceDeps } from './deps.js';

/** How many tasks were written, by the status they have now. */
export type RebuiltCounts = Readonly<Record<TaskStatus, number>>;

/**
 * Writes the tasks that Temporal still has and the database has lost: status, plan, owner, priority and error. Outputs were in the database,
 * so a completed task comes back without its result, and one that was running starts anew, as its next attempt.
 */
export function rebuildTasksUseCase({ sql, temporal, log }: Pick<ServiceDeps, 'sql' | 'temporal' | 'log'>) {
  return async (): Promise<RebuiltCounts> => {
    const counts: Record<TaskStatus, number> = { queued: 0, running: 0, completed: 0, failed: 0, cancelled: 0 };
    const known = await knownTasks(sql);
    for await (const run of taskRuns(await temporal(), (taskId) => !known.has(taskId))) {
      const task = rebuilt(run);
      if (!(await insertRebuilt(sql, task))) continue;
      counts[task.status] += 1;
      log.warn({ task_id: task.id, run_id: run.runId, status: task.status }, 'a task that the database had lost is there again');
    }
    return counts;
  };
}

/** What a run says of its task. */
export function rebuilt(run: TaskRun): RebuiltTask {
  const { taskId, plan, attempt, exact } = run.start;
  const base = { id: taskId, name: run.name ?? plan.template, exact, userId: run.owner, plan, createdAt: run.startedAt, completedAt: run.closedAt };
  const ended = { ...base, attempt, runId: run.runId };
  switch (run.status) {
    case 'RUNNING':
      // Its place in the line and what its steps gave are lost: the run that waits for them is replaced.
      return { ...base, attempt: attempt + 1, runId: null, status: 'queued', error: null };
    case 'COMPLETED':
      return { ...ended, status: 'completed', error: null };
    case 'CANCELLED':
      return { ...ended, status: 'cancelled', error: null };
    case 'FAILED':
      return { ...ended, status: 'failed', error: { code: failureCodes.unexpected, message: 'the task failed', ...run.failure, step: null, attempt } };
    case 'TERMINATED':
    case 'TIMED_OUT': {
      const message = `its run was ended from outside: ${run.status.toLowerCase().replaceAll('_', ' ')}`;
      return { ...ended, status: 'failed', error: { code: failureCodes.endedOutside, message, step: null, attempt } };
    }
  }
}
