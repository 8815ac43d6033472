import { forgetStart, hastenStart, type TaskToStart } from '../db/tasks.js';
import { startTaskWorkflow } from '../temporal/start-task.js';
import type { ServiceDeps } from './deps.js';
import { within } from './within.js';

/**
 * Starts a stored task now, for a short time of trying. The outbox row stays until that is known to have worked, so a failure here
 * only delays the task: never throws.
 */
export async function startTask({ sql, temporal, log, config }: ServiceDeps, task: TaskToStart): Promise<void> {
  const { priorityLevels, temporalTimeoutMs: timeoutMs } = config;
  try {
    await within(
      timeoutMs,
      'Temporal',
      temporal().then((client) => startTaskWorkflow(client, task, { priorityLevels, timeoutMs })),
    );
  } catch (error) {
    log.warn({ err: error, task_id: task.taskId }, 'task stored, its start is left to the outbox');
    hastenStart(sql, task.taskId).catch((cause: unknown) => log.warn({ err: cause, task_id: task.taskId }, 'outbox not told'));
    return;
  }
  // The claim of its grant removes the row. Where that never comes, the outbox starts a task that has started, which does nothing, and removes it then.
  if (task.first) return;
  forgetStart(sql, task.taskId, task.attempt).catch((cause: unknown) =>
    log.warn({ err: cause, task_id: task.taskId }, 'outbox row stays; the outbox starts the task again, without effect'),
  );
}

/** Starts that nobody waits for. */
export interface StartsUnderWay {
  /** False: leave the next one to the outbox, so that a burst of tasks never becomes a queue in this process. */
  hasRoom(): boolean;
  add(start: Promise<void>): void;
  /** Resolves when none is under way; call it before the connection to Temporal is closed. */
  settled(): Promise<void>;
}

/** As many as keep a server busy; each takes some ten milliseconds. */
const startsMax = 16;

export function createStartsUnderWay(): StartsUnderWay {
  const starts = new Set<Promise<void>>();
  return {
    hasRoom: () => starts.size < startsMax,
    add(start) {
      starts.add(start);
      void start.finally(() => starts.delete(start));
    },
    async settled() {
      await Promise.all(starts);
    },
  };
}
